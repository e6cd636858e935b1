//! Python that nothing runs: tests that pytest does not collect, modules that nobody imports or
//! names.

use crate::tree::Tree;

/// Where `make e2e` has pytest look, in files called `test_*.py`.
const COLLECTED: &str = "tests/e2e/test_";

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(&[".py"]) {
        let collected = path.starts_with(COLLECTED);
        let tests = text.lines().any(|line| line.starts_with("def test_") || line.starts_with("class Test"));
        if tests && !collected {
            findings.push(format!("{path}: pytest does not collect the tests in it"));
        }
        if !collected && !is_used(tree, path) {
            findings.push(format!("{path}: nobody imports or runs it"));
        }
    }
    findings
}

/// Whether another file imports this one or names it. pytest loads `conftest.py` by itself.
fn is_used(tree: &Tree, path: &str) -> bool {
    let file = path.rsplit('/').next().unwrap_or(path);
    let name = file.trim_end_matches(".py");
    let imports = [format!("import {name}"), format!("from {name} import")];
    let imports = |line: &str| imports.iter().any(|import| line.trim_start().starts_with(&**import));
    let imported = tree.ending(&[".py"]).any(|(_, text)| text.lines().any(imports));
    imported
        || file == "conftest.py"
        || tree.ending(&[""]).any(|(other, text)| other != path && text.contains(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nothing_runs_is_found() {
        let tree = Tree::of(&[
            ("Makefile", "bench:\n\tpython tests/bench/bench.py\n"),
            ("tests/bench/bench.py", "import helper\n"),
            ("tests/bench/helper.py", "def test_a(): pass\n"),
            ("tests/e2e/conftest.py", ""),
            ("tests/e2e/test_a.py", "def test_a(): pass\n"),
            ("tests/e2e/orphan.py", "x = 1\n"),
        ]);
        let expected = [
            "tests/bench/helper.py: pytest does not collect the tests in it",
            "tests/e2e/orphan.py: nobody imports or runs it",
        ];
        assert_eq!(check(&tree), expected);
    }
}
