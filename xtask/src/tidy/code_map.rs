//! The code map in ARCHITECTURE.md: every crate once, with the crates of ours that it uses; and the
//! crates that it says have unsafe code.

use std::collections::BTreeSet;

use crate::tree::Tree;
use crate::workspace::Package;

const PAGE: &str = "ARCHITECTURE.md";
/// Stands for all crates in the rows above.
const ALL: &str = "all of these";

pub(super) fn check(tree: &Tree, packages: &[Package]) -> Vec<String> {
    let crates: Vec<&Package> =
        packages.iter().filter(|package| package.directory.starts_with("crates/")).collect();
    let mut findings = uses(&rows(tree.text(PAGE)), &crates);
    findings.extend(unsafe_code(tree, &crates));
    findings
}

struct Row<'a> {
    name: &'a str,
    uses: BTreeSet<&'a str>,
}

/// The table's rows.
fn rows(page: &str) -> Vec<Row<'_>> {
    let section = page.split("\n## ").find(|section| section.starts_with("Code map")).unwrap_or_default();
    let mut rows: Vec<Row> = Vec::new();
    for line in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, name, listed, ..] = *cells else { continue };
        let uses =
            if listed == ALL { rows.iter().map(|row| row.name).collect() } else { quoted(listed).collect() };
        rows.push(Row { name: name.trim_matches('`'), uses });
    }
    rows
}

/// What is in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

fn uses(rows: &[Row], crates: &[&Package]) -> Vec<String> {
    let mut findings = Vec::new();
    for row in rows {
        if rows.iter().filter(|other| other.name == row.name).count() > 1 {
            findings.push(format!("{PAGE}: crate {} has more than one row", row.name));
        }
        if !crates.iter().any(|package| package.name == row.name) {
            findings.push(format!("{PAGE}: there is no crate {}", row.name));
        }
    }
    for package in crates {
        let Some(row) = rows.iter().find(|row| row.name == package.name) else {
            findings.push(format!("{PAGE}: crate {} is not in the code map", package.name));
            continue;
        };
        let dependencies =
            package.dependencies.iter().filter(|dependency| dependency.ours && !dependency.for_tests);
        let used: BTreeSet<&str> = dependencies.map(|dependency| &*dependency.name).collect();
        if used != row.uses {
            findings.push(format!(
                "{PAGE}: {} uses {}; the code map lacks [{}] and has too much [{}]",
                package.name,
                listed(used.iter()),
                listed(used.difference(&row.uses)),
                listed(row.uses.difference(&used)),
            ));
        }
    }
    findings
}

fn listed<'a>(names: impl Iterator<Item = &'a &'a str>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Compares the paragraph on unsafe code with the crates that allow some outside of their tests.
fn unsafe_code(tree: &Tree, crates: &[&Package]) -> Option<String> {
    let page = tree.text(PAGE);
    let paragraph = page.split("\n\n").find(|paragraph| paragraph.starts_with("**Unsafe code**"));
    let named: BTreeSet<&str> =
        quoted(paragraph.unwrap_or_default()).map(|name| name.split("::").next().unwrap_or(name)).collect();
    let allows = |package: &&&Package| {
        let sources = tree
            .ending(&[".rs"])
            .filter(|(path, _)| path.starts_with(&format!("{}/src/", package.directory)));
        sources.into_iter().any(|(path, _)| {
            let code = &tree.source(path).code;
            ["allow(unsafe_code", "expect(unsafe_code"].iter().any(|attribute| code.contains(attribute))
        })
    };
    let found: BTreeSet<&str> = crates.iter().filter(allows).map(|package| &*package.name).collect();
    (named != found).then(|| format!("{PAGE}: unsafe code is in {}", listed(found.iter())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Dependency;

    fn package(name: &str, uses: &[&str]) -> Package {
        let dependency = |name: &&str| Dependency {
            name: (*name).to_owned(),
            crate_name: (*name).to_owned(),
            for_tests: false,
            ours: true,
        };
        Package {
            name: name.to_owned(),
            directory: format!("crates/{name}"),
            dependencies: uses.iter().map(dependency).collect(),
            targets: Vec::new(),
        }
    }

    fn findings(map: &str, packages: &[Package]) -> usize {
        check(&Tree::of(&[(PAGE, &format!("# A\n\n## Code map\n\n{map}\n"))]), packages).len()
    }

    #[test]
    fn the_map_is_compared_with_the_dependencies() {
        let packages = [package("a", &[]), package("b", &["a"]), package("c", &["a", "b"])];
        let (a, b, c) = ("| `a` | – | x |", "| `b` | `a` | x |", "| `c` | all of these | x |");
        assert_eq!(findings(&[a, b, c].join("\n"), &packages), 0);
        assert_eq!(findings(&[a, b].join("\n"), &packages), 1, "a crate is missing");
        assert_eq!(findings(&[a, b, b, c].join("\n"), &packages), 2, "a row is there twice");
        assert_eq!(findings(&[a, "| `b` | – | x |", c].join("\n"), &packages), 1, "a use is missing");
        assert_eq!(findings(&[a, b, c, "| `d` | – | x |"].join("\n"), &packages), 1, "no such crate");
    }

    #[test]
    fn unsafe_code_is_where_the_page_says() {
        let page = |text: &'static str| {
            let tree = Tree::of(&[(PAGE, text), ("crates/a/src/lib.rs", "#![allow(unsafe_code)]")]);
            unsafe_code(&tree, &[&package("a", &[])])
        };
        assert_eq!(page("# A\n\n**Unsafe code** is in `a::b`."), None);
        assert!(page("# A\n\n**Unsafe code** is in `c`.").is_some());
    }
}
