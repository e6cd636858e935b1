//! References to files that are not there: links and anchors in Markdown, and paths in backticks or
//! bare in Markdown and in comments.

use std::collections::BTreeSet;

use crate::tree::Tree;

/// Endings of files that are referred to as ours. Others, such as `.toml`, are often a user's.
const ENDINGS: [&str; 6] = [".rs", ".sh", ".py", ".md", ".mjs", ".pl"];
/// What a path of ours has not: these are patterns, places on a host, or no paths at all.
const FOREIGN: [char; 12] = ['<', '>', '*', '{', '}', '$', '~', ':', '(', ')', '|', '='];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(&[".md"]) {
        let prose = without_blocks(text);
        findings.extend(links(&prose).into_iter().filter_map(|link| broken_link(tree, path, link)));
        findings.extend(missing(tree, path, &prose));
    }
    for (path, _) in tree.ending(&[".rs"]) {
        findings.extend(missing(tree, path, &tree.source(path).comments));
    }
    for (path, text) in tree.ending(&[".sh", ".py", ".toml", "Makefile", "Dockerfile"]) {
        let comments: Vec<&str> =
            text.lines().filter(|line| line.trim_start().starts_with('#') || line.contains(".md")).collect();
        findings.extend(missing(tree, path, &comments.join("\n")));
    }
    findings
}

/// Markdown without its blocks of code.
fn without_blocks(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Targets of links.
fn links(prose: &str) -> Vec<&str> {
    prose.split("](").skip(1).filter_map(|rest| rest.split(')').next()).collect()
}

fn broken_link(tree: &Tree, page: &str, link: &str) -> Option<String> {
    if link.contains("://") || link.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if path.is_empty() { Some(page.to_owned()) } else { relative(page, path) };
    let Some(target) = target.filter(|target| tree.has(target)) else {
        return Some(format!("{page}: a link leads to {link}, which is not there"));
    };
    let found = anchor.is_empty() || anchors(tree.text(&target)).contains(anchor);
    (!found).then(|| format!("{page}: a link leads to {link}, and {target} has no such heading"))
}

/// The path that a link on a page means; `None` when it leads out of the repository.
fn relative(page: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// Anchors of a page's headings, as GitHub makes them.
fn anchors(page: &str) -> BTreeSet<String> {
    let prose = without_blocks(page);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let slug = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

/// Paths in prose that are neither the end of a path of ours nor relative to the file.
fn missing(tree: &Tree, place: &str, prose: &str) -> Vec<String> {
    let mut findings = Vec::new();
    let separators =
        |c: char| c.is_whitespace() || matches!(c, '`' | ',' | ';' | '"' | '\'' | '(' | ')' | '[' | ']');
    for word in prose.split(separators) {
        let word = word.split('#').next().unwrap_or_default();
        let word = word.trim_end_matches(['.', ':', '!', '?', '/']);
        if is_ours(tree, word) && !is_there(tree, place, word) {
            findings.push(format!("{place}: it speaks of {word}, which is not there"));
        }
    }
    findings
}

/// Whether a path is there: from the root, as the end of another path, from the file that speaks of
/// it, or with the name of a crate for its sources (`vmm/vm.rs`).
fn is_there(tree: &Tree, place: &str, path: &str) -> bool {
    let in_crate = path.split_once('/').map(|(name, rest)| format!("crates/{name}/src/{rest}"));
    tree.has_end(path)
        || in_crate.is_some_and(|path| tree.has(&path))
        || relative(place, path).is_some_and(|path| tree.has(&path))
}

/// Whether a word is meant as a path of the repository: by its ending, or by a directory that it
/// begins with.
fn is_ours(tree: &Tree, word: &str) -> bool {
    if word.contains(FOREIGN) || word.contains("//") || word.starts_with(['/', '.', '-']) {
        return false;
    }
    let first = word.split_once('/').map(|(first, _)| first);
    let below = first.is_some_and(|first| ["crates", "docs", "scripts", "tests", "xtask"].contains(&first));
    let ending = ENDINGS.iter().any(|end| word.strip_suffix(end).is_some_and(|stem| !stem.is_empty()));
    ending || (below && tree.has(first.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_found() {
        let tree = Tree::of(&[
            ("docs/a.md", "# A b\n[x](b.md#c-d) [y](../e.rs) [z](#a-b) `f/g.sh`, https://x.org/y.md\n"),
            ("docs/b.md", "## `C` d!\n```\nnot/there.rs\n```\n"),
            ("e.rs", "// docs/a.md#a, g.sh, `h/i.rs` and `crates/*/none.rs`\nlet a = \"no.md\";\n"),
            ("crates/f/g.sh", "# docs/b.md\n"),
            ("crates/h/src/i.rs", ""),
        ]);
        assert!(check(&tree).is_empty(), "{:?}", check(&tree));
        let tree = Tree::of(&[
            ("docs/a.md", "# A\n[x](b.md) [y](#c) `d.rs`\n"),
            ("e.rs", "//! behaviour.md, section 2; docs/gone\n"),
            ("f.py", "\"\"\"As README.md has it.\"\"\"\n"),
        ]);
        let expected = [
            "docs/a.md: a link leads to b.md, which is not there",
            "docs/a.md: a link leads to #c, and docs/a.md has no such heading",
            "docs/a.md: it speaks of b.md, which is not there",
            "docs/a.md: it speaks of d.rs, which is not there",
            "e.rs: it speaks of behaviour.md, which is not there",
            "e.rs: it speaks of docs/gone, which is not there",
            "f.py: it speaks of README.md, which is not there",
        ];
        assert_eq!(check(&tree), expected);
    }
}
