//! Modules that use each other in a circle.
//!
//! The rule: of the modules of one parent, each with all that is in it, none uses itself by way of
//! another. What stands in the parent's own file is left aside, since a parent puts its children
//! together and gives them what they share; a name that it imports means the module that it comes
//! from. Tests may use everything.

use std::collections::{BTreeMap, BTreeSet};

use crate::modules::{self, Module};
use crate::paths::{self, NamedPath};
use crate::source::without_tests;
use crate::tree::Tree;
use crate::workspace::Package;

/// Crates that have circles. The list only shrinks.
const CIRCULAR: &[&str] = &["host-net", "iam-api", "identity", "image-builder", "s3-api", "vmm"];

pub(super) fn check(tree: &Tree, packages: &[Package]) -> Vec<String> {
    packages.iter().flat_map(|package| of_package(tree, package, CIRCULAR)).collect()
}

fn of_package(tree: &Tree, package: &Package, circular: &[&str]) -> Vec<String> {
    let targets = package.targets.iter().filter(|target| !target.for_tests);
    let findings: Vec<String> =
        targets.flat_map(|target| Graph::of(tree, &target.root).findings(&target.root)).collect();
    match (circular.contains(&&*package.name), findings.is_empty()) {
        (false, _) => findings,
        (true, false) => Vec::new(),
        (true, true) => {
            vec![format!(
                "{}: it has no circles any more; take it off the list in tidy/cycles.rs",
                package.directory
            )]
        }
    }
}

/// The modules of a target by their paths, with what each names.
struct Graph {
    modules: BTreeMap<Vec<String>, Vec<NamedPath>>,
}

impl Graph {
    fn of(tree: &Tree, root: &str) -> Self {
        let found = modules::of_target(tree, root).into_iter().filter(|module| !module.for_tests);
        let named = |module: Module| {
            let code = without_tests(&tree.source(&module.file).code);
            (module.path, paths::of_code(&code))
        };
        Self { modules: found.map(named).collect() }
    }

    fn findings(&self, root: &str) -> Vec<String> {
        let mut below: BTreeMap<&[String], Edges> = BTreeMap::new();
        for (module, named) in &self.modules {
            for path in named {
                let Some(used) = self.resolve(module, &path.parts, 0) else { continue };
                let common = module.iter().zip(&used).take_while(|(a, b)| a == b).count();
                if let (Some(from), Some(to)) = (module.get(common), used.get(common)) {
                    let edges = below.entry(&module[..common]).or_default();
                    edges.entry(from.clone()).or_default().insert(to.clone());
                }
            }
        }
        let finding = |(parent, edges): (&[String], Edges)| {
            let circle = circle(&edges)?;
            let within = if parent.is_empty() { String::new() } else { format!(" in {}", parent.join("::")) };
            Some(format!("{root}: modules{within} use each other in a circle: {}", circle.join(" → ")))
        };
        below.into_iter().filter_map(finding).collect()
    }

    /// The module that a path leads to, as it is written in `module`; `None` when that is another
    /// crate's.
    fn resolve(&self, module: &[String], parts: &[String], depth: usize) -> Option<Vec<String>> {
        let mut at = module.to_vec();
        let mut rest = parts;
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (Vec::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            _ => {
                self.child(&at, &rest[0])?;
            }
        }
        while let Some(part) = rest.first() {
            let Some(child) = self.child(&at, part) else {
                return self.imported(&at, rest, depth).or(Some(at));
            };
            (at, rest) = (child, &rest[1..]);
        }
        Some(at)
    }

    fn child(&self, module: &[String], name: &str) -> Option<Vec<String>> {
        let path: Vec<String> = module.iter().cloned().chain([name.to_owned()]).collect();
        self.modules.contains_key(&path).then_some(path)
    }

    /// The module that a name comes from which `module` imports.
    fn imported(&self, module: &[String], rest: &[String], depth: usize) -> Option<Vec<String>> {
        let named = self.modules.get(module)?;
        let import = named.iter().find(|path| path.import.as_ref() == rest.first())?;
        // Names that are imported from each other are the compiler's to refuse.
        if depth > 8 {
            return None;
        }
        self.resolve(module, &import.parts, depth + 1)
    }
}

/// Which modules each uses.
type Edges = BTreeMap<String, BTreeSet<String>>;

/// A shortest circle, from its first module to the same again.
fn circle(edges: &Edges) -> Option<Vec<String>> {
    let circles = edges.keys().filter_map(|start| way(edges, start));
    circles.min_by_key(Vec::len)
}

/// A shortest way from a module back to it.
fn way(edges: &Edges, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    let mut next = 0;
    while let Some(way) = ways.get(next).cloned() {
        for to in way.last().and_then(|last| edges.get(last)).into_iter().flatten() {
            let longer: Vec<String> = way.iter().chain([to]).cloned().collect();
            if to == start {
                return Some(longer);
            }
            if seen.insert(to.clone()) {
                ways.push(longer);
            }
        }
        next += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Target;

    fn findings(files: &[(&str, &str)]) -> Vec<String> {
        Graph::of(&Tree::of(files), "src/lib.rs").findings("c")
    }

    #[test]
    fn a_tree_has_no_circle() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\npub use b::B;\npub struct C;\n"),
            ("src/a.rs", "mod d;\nuse crate::B;\nuse http::Request;\nuse d::D;\n"),
            ("src/a/d.rs", "use super::A;\nfn e(_: crate::C) {}\n"),
            ("src/b.rs", "// crate::a\nuse crate::C;\n#[cfg(test)]\nmod tests {\n    use crate::a::A;\n}\n"),
        ];
        assert!(findings(&files).is_empty(), "{:?}", findings(&files));
    }

    #[test]
    fn a_crate_is_on_the_list_as_long_as_it_has_circles() {
        let package = |name: &str| Package {
            name: name.to_owned(),
            directory: "a".to_owned(),
            targets: vec![Target { root: "a/lib.rs".to_owned(), for_tests: false }],
            ..Package::default()
        };
        let circle = ("a/b.rs", "use crate::c;\n");
        let tree = |b| Tree::of(&[("a/lib.rs", "mod b;\nmod c;\n"), b, ("a/c.rs", "use crate::b;\n")]);
        let findings = |tree: &Tree, name: &str| of_package(tree, &package(name), &["known"]).len();
        assert_eq!((findings(&tree(circle), "known"), findings(&tree(circle), "other")), (0, 1));
        let none = ("a/b.rs", "");
        assert_eq!((findings(&tree(none), "known"), findings(&tree(none), "other")), (1, 0));
    }

    #[test]
    fn circles_are_found() {
        let files = [
            ("src/lib.rs", "mod a;\nmod b;\nmod c;\npub use b::B;\n"),
            ("src/a.rs", "use crate::B;\n"),
            ("src/b.rs", "mod d;\n"),
            ("src/b/d.rs", "fn e() { crate::c::f() }\n"),
            ("src/c.rs", "use super::{a::A, b};\n"),
        ];
        assert_eq!(findings(&files), ["c: modules use each other in a circle: b → c → b"]);
    }
}
