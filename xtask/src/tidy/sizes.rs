//! How long files are and how wide comments. rustfmt rules the width of code.

use crate::tree::Tree;

/// Widest line with a comment, in characters.
const COLUMNS: usize = 100;
/// A Rust file has fewer lines than this.
const LINES: usize = 400;
/// Programs in other languages whose comments begin with `#`.
const SCRIPTS: [&str; 7] = [".sh", ".py", ".ci/run", "Makefile", "Dockerfile", ".toml", "/build-image"];

pub(super) fn check(tree: &Tree) -> Vec<String> {
    let mut findings = Vec::new();
    for (path, text) in tree.ending(&[".rs"]) {
        let lines = text.lines().count();
        if lines >= LINES {
            findings.push(format!("{path}: {lines} lines, and fewer than {LINES} are allowed"));
        }
        let comments = &tree.source(path).comments;
        // Blanks behind a comment stand for code.
        let wide = comments.lines().map(str::trim_end).enumerate().filter(|(_, line)| is_wide(line));
        findings.extend(wide.map(|(line, _)| finding(path, line)));
    }
    for (path, text) in tree.ending(&SCRIPTS) {
        let lines = text.lines().enumerate();
        let wide = lines.filter(|(_, line)| line.trim_start().starts_with('#') && is_wide(line));
        findings.extend(wide.map(|(line, _)| finding(path, line)));
    }
    findings
}

fn finding(path: &str, line: usize) -> String {
    format!("{path}:{}: a comment is wider than {COLUMNS} columns", line + 1)
}

/// Whether a line is too wide and could be broken: one long word, such as an address, cannot.
fn is_wide(line: &str) -> bool {
    let words = line.split_whitespace().filter(|word| word.chars().any(char::is_alphanumeric));
    line.chars().count() > COLUMNS && words.count() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wide_comments_are_found() {
        let (long, word) = ("word ".repeat(20), "w".repeat(120));
        let tree = Tree::of(&[
            ("a.rs", &format!("let a = \"// {long}\";\n/// {word}\n// {long}\nlet b = 1; // {long}\n")),
            ("b.sh", &format!("echo {long}{long} # x\n# {long}\n")),
        ]);
        let places: Vec<String> =
            check(&tree).iter().map(|found| found.split(": ").next().unwrap().to_owned()).collect();
        assert_eq!(places, ["a.rs:3", "a.rs:4", "b.sh:2"]);
    }

    #[test]
    fn long_files_are_found() {
        let file = |lines: usize| check(&Tree::of(&[("a.rs", &"a();\n".repeat(lines))]));
        assert!(file(LINES - 1).is_empty());
        assert_eq!(file(LINES).len(), 1);
    }
}
