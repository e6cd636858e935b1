//! Files of Rust that no `mod` reaches: they are not compiled, and tests in them do not run.

use std::collections::BTreeSet;

use crate::modules;
use crate::tree::Tree;
use crate::workspace::Package;

pub(super) fn check(tree: &Tree, packages: &[Package]) -> Vec<String> {
    let targets = packages.iter().flat_map(|package| &package.targets);
    let reached: BTreeSet<String> =
        targets.flat_map(|target| modules::of_target(tree, &target.root)).map(|module| module.file).collect();
    tree.ending(&[".rs"])
        .map(|(path, _)| path)
        .filter(|path| packages.iter().any(|package| package.contains(path)))
        .filter(|path| !reached.contains(*path))
        .map(|path| format!("{path}: no `mod` reaches this file"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Target;

    #[test]
    fn forgotten_files_are_found() {
        let target = |root: &str| Target { root: root.to_owned(), for_tests: false };
        let package = Package {
            directory: "crates/a".to_owned(),
            targets: vec![target("crates/a/src/lib.rs"), target("crates/a/tests/it/main.rs")],
            ..Package::default()
        };
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", "mod b;\n"),
            ("crates/a/src/b.rs", ""),
            ("crates/a/src/gone.rs", ""),
            ("crates/a/tests/it/main.rs", "mod c;\n"),
            ("crates/a/tests/it/c.rs", ""),
            ("crates/a/tests/it/forgotten.rs", ""),
            ("elsewhere.rs", ""),
        ]);
        let expected = ["crates/a/src/gone.rs", "crates/a/tests/it/forgotten.rs"];
        assert_eq!(
            check(&tree, &[package]),
            expected.map(|path| format!("{path}: no `mod` reaches this file"))
        );
    }
}
