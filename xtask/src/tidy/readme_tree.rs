//! The tree in README.md against the directories that are there.

use std::collections::BTreeSet;

use crate::tree::Tree;

const PAGE: &str = "README.md";

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let said = said(tree.text(PAGE));
    let top = tree.directories_in("").into_iter().filter(|name| !name.starts_with('.'));
    let crates = tree.directories_in("crates").into_iter().map(|name| format!("crates/{name}"));
    let there: BTreeSet<String> = top.map(str::to_owned).chain(crates).collect();
    let missing = there.difference(&said).map(|path| format!("{PAGE}: {path} is not in the tree"));
    let surplus =
        said.difference(&there).map(|path| format!("{PAGE}: the tree has {path}, which is not there"));
    missing.chain(surplus).collect()
}

/// Directories in the tree: `name/` at the beginning of a line, and names below `crates/`.
fn said(page: &str) -> BTreeSet<String> {
    let section = page.split("\n## ").find(|section| section.starts_with("The tree")).unwrap_or_default();
    let block = section.split("```").nth(1).unwrap_or_default();
    let mut above = "";
    let mut said = BTreeSet::new();
    for line in block.lines().filter(|line| !line.trim().is_empty()) {
        let name = line.split_whitespace().next().unwrap_or_default().trim_end_matches('/');
        if line.starts_with(' ') {
            said.insert(format!("{above}/{name}"));
        } else {
            above = name;
            said.insert(name.to_owned());
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_compared_with_the_directories() {
        let page = "# A\n\n## The tree\n\n```\ncrates/\n  a   An a\ndocs/    pages\n```\n";
        let files = [(PAGE, page), ("crates/a/src/lib.rs", ""), ("docs/a.md", ""), (".ci/run", "")];
        assert!(check(&Tree::of(&files)).is_empty());
        let more = [files[0], files[1], files[2], ("crates/b/src/lib.rs", ""), ("tests/c.py", "")];
        assert_eq!(check(&Tree::of(&more)).len(), 2);
        assert_eq!(check(&Tree::of(&files[..2])), ["README.md: the tree has docs, which is not there"]);
    }
}
