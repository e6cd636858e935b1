//! The files of the repository, by their paths from its root, with their text.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use crate::source::Source;

/// What is made and not written by anybody (`.gitignore`), and what belongs to git.
const LEFT_OUT: [&str; 5] = [".git", ".notes", "target", "node_modules", "__pycache__"];

/// All files of a checkout.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, File>,
    directories: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct File {
    /// Empty if it is no UTF-8.
    text: String,
    /// Empty if it is no Rust.
    source: Source,
}

impl Tree {
    /// Reads all files below `root`.
    pub(crate) fn read(root: &Path) -> io::Result<Self> {
        let mut tree = Self::default();
        tree.read_directory(root, "")?;
        Ok(tree)
    }

    fn read_directory(&mut self, directory: &Path, prefix: &str) -> io::Result<()> {
        for entry in directory.read_dir()? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if LEFT_OUT.contains(&&*name) {
                continue;
            }
            let kind = entry.file_type()?;
            let path = format!("{prefix}{name}");
            if kind.is_dir() {
                self.read_directory(&entry.path(), &format!("{path}/"))?;
            } else if kind.is_file() {
                let text = String::from_utf8(std::fs::read(entry.path())?).unwrap_or_default();
                self.add(path, text);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: String, text: String) {
        let ends = path.match_indices('/').map(|(end, _)| path[..end].to_owned());
        self.directories.extend(ends);
        let is_rust = Path::new(&path).extension().is_some_and(|extension| extension == "rs");
        let source = if is_rust { Source::of(&text) } else { Source::default() };
        self.files.insert(path, File { text, source });
    }

    /// A tree of these files, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut tree = Self::default();
        for (path, text) in files {
            tree.add((*path).to_owned(), (*text).to_owned());
        }
        tree
    }

    /// The text of a file; empty if there is none.
    pub(crate) fn text(&self, path: &str) -> &str {
        self.files.get(path).map_or("", |file| &file.text)
    }

    /// A file of Rust.
    pub(crate) fn source(&self, path: &str) -> &Source {
        static NONE: Source =
            Source { code: String::new(), code_and_strings: String::new(), comments: String::new() };
        self.files.get(path).map_or(&NONE, |file| &file.source)
    }

    /// Whether there is a file or directory with this path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.files.contains_key(path) || self.directories.contains(path)
    }

    /// Whether there is a file.
    pub(crate) fn has_file(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Whether the path of a file or directory is this, or ends with this behind a slash.
    pub(crate) fn has_end(&self, end: &str) -> bool {
        let paths = self.files.keys().chain(&self.directories);
        paths
            .into_iter()
            .any(|path| path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('/')))
    }

    /// Files with one of these endings, as path and text, in the order of their paths.
    pub(crate) fn ending<'a>(&'a self, ends: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let files = self.files.iter().map(|(path, file)| (&**path, &*file.text));
        files.filter(|(path, _)| ends.iter().any(|end| path.ends_with(end)))
    }

    /// Names of the directories in a directory (the root is "").
    pub(crate) fn directories_in(&self, directory: &str) -> Vec<&str> {
        let prefix = if directory.is_empty() { String::new() } else { format!("{directory}/") };
        let below = self.directories.iter().filter_map(|path| path.strip_prefix(&prefix));
        below.filter(|name| !name.contains('/')).collect()
    }
}
