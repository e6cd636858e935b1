//! The modules of a target: which file each is in, and which file says so.

use crate::tree::Tree;

/// A file of Rust that a `mod` reaches.
#[derive(Debug)]
pub(crate) struct Module {
    /// From the root of the repository.
    pub(crate) file: String,
    /// Names from the target's root on, which has none itself.
    pub(crate) path: Vec<String>,
    /// It is compiled for tests only.
    pub(crate) for_tests: bool,
}

/// All modules of the target whose first file is `root`; files that are not there are left out.
pub(crate) fn of_target(tree: &Tree, root: &str) -> Vec<Module> {
    let mut modules = vec![Module { file: root.to_owned(), path: Vec::new(), for_tests: false }];
    let mut next = 0;
    while let Some(module) = modules.get(next) {
        let found = children(tree, module);
        modules.extend(found);
        next += 1;
    }
    modules
}

fn children(tree: &Tree, parent: &Module) -> Vec<Module> {
    let directory = parent.file.rsplit_once('/').map_or("", |(directory, _)| directory);
    let is_directory = parent.path.is_empty() || parent.file.ends_with("/mod.rs");
    let below = if is_directory { directory } else { parent.file.trim_end_matches(".rs") };
    declarations(&tree.source(&parent.file).code_and_strings)
        .into_iter()
        .filter_map(|declaration| {
            let Declaration { name, path, for_tests } = declaration;
            let candidates = match path {
                Some(path) => vec![joined(directory, &path)],
                None => vec![format!("{below}/{name}.rs"), format!("{below}/{name}/mod.rs")],
            };
            let file = candidates.into_iter().find(|file| tree.has_file(file))?;
            let path = parent.path.iter().cloned().chain([name]).collect();
            Some(Module { file, path, for_tests: for_tests || parent.for_tests })
        })
        .collect()
}

struct Declaration {
    name: String,
    /// What a `#[path]` says.
    path: Option<String>,
    for_tests: bool,
}

/// Every `mod name;`, with what the attributes above it say. One declaration or attribute is on a
/// line, as rustfmt has it.
fn declarations(code: &str) -> Vec<Declaration> {
    let (mut found, mut path, mut for_tests) = (Vec::new(), None, false);
    for line in code.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(attribute) = line.strip_prefix("#[") {
            for_tests |= attribute.starts_with("cfg(test)");
            let quoted = attribute.strip_prefix("path = \"").and_then(|rest| rest.split('"').next());
            path = quoted.map(str::to_owned).or(path);
            continue;
        }
        let declared = line.strip_suffix(';').and_then(|line| line.rsplit_once("mod "));
        if let Some((before, name)) = declared
            && (before.is_empty() || before.starts_with("pub"))
        {
            found.push(Declaration { name: name.to_owned(), path, for_tests });
        }
        (path, for_tests) = (None, false);
    }
    found
}

/// The path that `relative` means in a directory.
fn joined(directory: &str, relative: &str) -> String {
    let mut parts: Vec<&str> = directory.split('/').filter(|part| !part.is_empty()).collect();
    for part in relative.split('/') {
        match part {
            "." | "" => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_found_where_rust_looks_for_them() {
        let tree = Tree::of(&[
            ("c/src/lib.rs", "mod a;\npub(crate) mod b;\n// mod gone;\n"),
            ("c/src/a.rs", "mod d;\n#[cfg(test)]\n#[path = \"a_tests.rs\"]\nmod tests;\n"),
            ("c/src/a/d.rs", ""),
            ("c/src/a_tests.rs", ""),
            ("c/src/b/mod.rs", "pub mod e;\n"),
            ("c/src/b/e.rs", ""),
        ]);
        let found = of_target(&tree, "c/src/lib.rs");
        let files: Vec<(&str, String, bool)> =
            found.iter().map(|module| (&*module.file, module.path.join("::"), module.for_tests)).collect();
        let expected = [
            ("c/src/lib.rs", "", false),
            ("c/src/a.rs", "a", false),
            ("c/src/b/mod.rs", "b", false),
            ("c/src/a/d.rs", "a::d", false),
            ("c/src/a_tests.rs", "a::tests", true),
            ("c/src/b/e.rs", "b::e", false),
        ];
        assert_eq!(files, expected.map(|(file, path, test)| (file, path.to_owned(), test)));
    }
}
