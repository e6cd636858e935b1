//! Dependencies that nothing uses. A crate is used where its name stands before `::`, or in a `use`
//! or `extern crate`, in the code or in the strings (attributes of serde name functions there).

use std::collections::BTreeSet;

use crate::modules;
use crate::source::without_tests;
use crate::tree::Tree;
use crate::workspace::Package;

/// Dependencies that no code names, with the crate whose they are: they turn features on that some
/// tests' dependencies want, so that nothing is compiled once more for these.
const UNNAMED: [(&str, &str); 1] = [("server", "zerocopy")];

pub(super) fn check(tree: &Tree, packages: &[Package]) -> Vec<String> {
    let unused = packages.iter().flat_map(|package| of_package(tree, package));
    unused.chain(of_workspace(tree, packages)).collect()
}

fn of_package(tree: &Tree, package: &Package) -> Vec<String> {
    let Code { product, tests } = Code::of(tree, package);
    let manifest = format!("{}/Cargo.toml", package.directory);
    let dependencies = package.dependencies.iter();
    dependencies
        .filter(|dependency| !UNNAMED.contains(&(&package.name, &dependency.crate_name)))
        .filter_map(|dependency| {
            let in_tests = names(&tests, &dependency.crate_name);
            if dependency.for_tests {
                return (!in_tests).then(|| format!("{manifest}: no test uses {}", dependency.crate_name));
            }
            (!names(&product, &dependency.crate_name)).then(|| {
                let who = if in_tests { "only tests use" } else { "nothing uses" };
                format!("{manifest}: {who} {}", dependency.crate_name)
            })
        })
        .collect()
}

/// The code of a crate.
struct Code {
    product: String,
    /// Tests, examples and benches, and the product, which holds inline tests.
    tests: String,
}

impl Code {
    fn of(tree: &Tree, package: &Package) -> Self {
        let (mut product, mut tests) = (String::new(), String::new());
        for target in &package.targets {
            for module in modules::of_target(tree, &target.root) {
                let source = tree.source(&module.file);
                if !target.for_tests && !module.for_tests {
                    product += &without_tests(&source.code_and_strings);
                }
                tests += &source.code_and_strings;
            }
        }
        Self { product, tests }
    }
}

/// Whether code names a crate.
fn names(code: &str, crate_name: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(crate_name).any(|(at, _)| {
        let (before, behind) = (&code[..at], &code[at + crate_name.len()..]);
        let whole = !before.ends_with(inside) && !behind.starts_with(inside);
        let imported = before.ends_with("use ") || before.ends_with("extern crate ");
        whole && (imported || behind.starts_with("::"))
    })
}

/// Entries of `[workspace.dependencies]` that no crate asks for.
fn of_workspace(tree: &Tree, packages: &[Package]) -> Vec<String> {
    let manifest = tree.text("Cargo.toml");
    let section = manifest.split("\n[").find(|section| section.starts_with("workspace.dependencies]"));
    let listed = section.unwrap_or_default().lines().filter_map(|line| line.split_once(" = "));
    let listed = listed.map(|(name, _)| name).filter(|name| !name.starts_with('#'));
    let asked: BTreeSet<&str> = packages
        .iter()
        .flat_map(|package| &package.dependencies)
        .map(|dependency| &*dependency.name)
        .collect();
    listed
        .map(|name| name.strip_prefix("hearth-").unwrap_or(name))
        .filter(|name| !asked.contains(name))
        .map(|name| format!("Cargo.toml: no crate asks for {name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::{Dependency, Target};

    fn unused(code: &str, dependencies: &[(&str, bool)]) -> Vec<String> {
        let dependency = |(name, for_tests): &(&str, bool)| Dependency {
            name: (*name).to_owned(),
            crate_name: (*name).to_owned(),
            for_tests: *for_tests,
            ours: false,
        };
        let package = Package {
            name: "a".to_owned(),
            directory: "crates/a".to_owned(),
            dependencies: dependencies.iter().map(dependency).collect(),
            targets: vec![Target { root: "crates/a/src/lib.rs".to_owned(), for_tests: false }],
        };
        check(&Tree::of(&[("crates/a/src/lib.rs", code)]), &[package])
    }

    #[test]
    fn unused_dependencies_are_found() {
        let code = "use b;\nuse c::D;\n// e::f\nlet my_g::h = i;\n#[serde(with = \"j::k\")]\n\
                    #[cfg(test)]\nmod tests {\n    use l::m;\n}\n";
        let dependencies = ["b", "c", "e", "g", "j", "l"].map(|name| (name, false));
        let expected = ["nothing uses e", "nothing uses g", "only tests use l"];
        assert_eq!(unused(code, &dependencies), expected.map(|text| format!("crates/a/Cargo.toml: {text}")));
    }

    #[test]
    fn dependencies_of_tests_are_for_tests() {
        let code = "#[cfg(test)]\nmod tests {\n    use b::c;\n}\n";
        assert_eq!(unused(code, &[("b", true), ("d", true)]), ["crates/a/Cargo.toml: no test uses d"]);
    }

    #[test]
    fn what_no_crate_asks_for_is_found() {
        let tree =
            Tree::of(&[("Cargo.toml", "[workspace]\n\n[workspace.dependencies]\na = \"1\"\n# b = c\n")]);
        assert_eq!(of_workspace(&tree, &[]), ["Cargo.toml: no crate asks for a"]);
    }
}
