//! What the entries of a zip are, by their names and attributes: which become part of the context,
//! and which is the Dockerfile.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use zip::System;
use zip::read::ZipFile;

use super::{Zip, invalid, read_link};
use crate::failure::{BuildFailure, FailureCode};

const DOCKERFILE: &[u8] = b"Dockerfile";
/// Longest part of a path, as Linux's file systems have it (NAME_MAX).
const NAME_BYTES: usize = 255;
/// Longest path, with room for the directory it is unpacked in (PATH_MAX is 4096).
const PATH_BYTES: usize = 4000;
/// Symbolic links between the name `Dockerfile` and the file, at most: as many as Linux follows.
const MOST_LINKS: usize = 40;
/// File type bits of a mode (inode(7)), and two of the types.
const S_IFMT: u32 = 0o170_000;
const S_IFDIR: u32 = 0o040_000;
const S_IFLNK: u32 = 0o120_000;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
    Link,
}

/// An entry that becomes part of the context.
#[derive(Debug)]
pub(super) struct Item {
    /// Number in the zip.
    pub(super) index: usize,
    pub(super) kind: Kind,
    /// Permissions.
    pub(super) mode: u32,
    /// Path below the root, without `.`, `..` and empty parts.
    path: Vec<u8>,
}

impl Item {
    pub(super) fn path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.path))
    }

    /// The path as a sentence has it.
    pub(super) fn shown(&self) -> String {
        shown(&self.path)
    }
}

/// The entries of an archive.
#[derive(Debug)]
pub(super) struct Plan {
    items: Vec<Item>,
    /// Positions in `items` by path, in an order in which what a directory holds
    /// comes right after it.
    by_path: BTreeMap<Vec<u8>, usize>,
}

impl Plan {
    /// Looks at all entries. Of several with one name the last counts, as for `unzip -o`.
    pub(super) fn make(archive: &mut Zip) -> Result<Self, BuildFailure> {
        let mut plan = Self { items: Vec::new(), by_path: BTreeMap::new() };
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(|error| {
                invalid(format!("Entry {index} of the zip archive is not readable: {error}."))
            })?;
            if let Some(item) = item(index, &entry)? {
                plan.by_path.insert(key(&item.path), plan.items.len());
                plan.items.push(item);
            }
        }
        plan.refuse_below_files()?;
        Ok(plan)
    }

    /// What is to be written, in the order of the archive.
    pub(super) fn items(&self) -> impl Iterator<Item = &Item> {
        let last = |(at, item): &(usize, &Item)| self.by_path.get(&key(&item.path)) == Some(at);
        self.items.iter().enumerate().filter(last).map(|(_, item)| item)
    }

    fn get(&self, path: &[u8]) -> Option<&Item> {
        self.by_path.get(&key(path)).map(|at| &self.items[*at])
    }

    /// An entry below a link would be written where the link points to.
    fn refuse_below_files(&self) -> Result<(), BuildFailure> {
        let mut before: Option<(&Vec<u8>, &Item)> = None;
        for (key, at) in &self.by_path {
            let item = &self.items[*at];
            if let Some((above, parent)) = before
                && parent.kind != Kind::Directory
                && key.starts_with(above)
                && key.get(above.len()) == Some(&0)
            {
                let kind = if parent.kind == Kind::Link { "a symbolic link" } else { "a file" };
                return Err(invalid(format!(
                    "The entry {} of the zip archive lies below {}, which is {kind}. Leave one of them out.",
                    item.shown(),
                    parent.shown()
                )));
            }
            before = Some((key, item));
        }
        Ok(())
    }

    /// The file that is the Dockerfile, by way of symbolic links in the archive.
    pub(super) fn dockerfile(&self, archive: &mut Zip) -> Result<&Item, BuildFailure> {
        if self.get(DOCKERFILE).is_none() {
            return Err(self.no_dockerfile());
        }
        let mut left = vec![DOCKERFILE.to_vec()];
        let mut path: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(part) = left.pop() {
            if part == b".." {
                if path.pop().is_none() {
                    return Err(elsewhere("leads out of the zip archive"));
                }
                continue;
            }
            path.push(part);
            let Some(item) = self.get(&path.join(&b'/')).filter(|item| item.kind == Kind::Link) else {
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return Err(elsewhere("leads from link to link without an end"));
            }
            let mut entry = super::open(archive, item)?;
            let target = read_link(&mut entry, item)?;
            if target.starts_with(b"/") {
                return Err(elsewhere(&format!(
                    "points to {}, which is not in the zip archive",
                    shown(&target)
                )));
            }
            path.pop();
            left.extend(parts(&target).rev().map(<[u8]>::to_vec));
        }
        let path = path.join(&b'/');
        match self.get(&path) {
            Some(item) if item.kind == Kind::File => Ok(item),
            Some(_) if path == DOCKERFILE => Err(not_found(
                "The zip archive has a directory named Dockerfile at its root instead of a file.".to_owned(),
            )),
            _ => Err(elsewhere(&format!("leads to {}, which is no file in the zip archive", shown(&path)))),
        }
    }

    /// Says what there is instead.
    fn no_dockerfile(&self) -> BuildFailure {
        let sentence = "The zip archive has no file named Dockerfile at its root.";
        let files = || self.items().filter(|item| item.kind != Kind::Directory);
        let alike = files().find(|item| {
            item.path.eq_ignore_ascii_case(DOCKERFILE) || item.path.eq_ignore_ascii_case(b"Dockerfile.txt")
        });
        if let Some(item) = alike {
            return not_found(format!("{sentence} It has {}: rename that to Dockerfile.", item.shown()));
        }
        let below = files().filter(|item| item.path.ends_with(b"/Dockerfile"));
        match below.min_by_key(|item| (item.path().components().count(), &item.path)) {
            Some(item) => not_found(format!(
                "{sentence} It has {}: zip what is in that directory, not the directory itself.",
                item.shown()
            )),
            None => not_found(sentence.to_owned()),
        }
    }
}

fn not_found(message: String) -> BuildFailure {
    BuildFailure::new(FailureCode::ArchiveDockerfileNotFound, message)
}

fn elsewhere(what: &str) -> BuildFailure {
    not_found(format!("The Dockerfile of the zip archive is a symbolic link that {what}."))
}

/// What an entry is; `None` for the root itself.
fn item<R: std::io::Read>(index: usize, entry: &ZipFile<'_, R>) -> Result<Option<Item>, BuildFailure> {
    let name = name(entry)?;
    let path = relative_path(&name)?;
    if path.is_empty() {
        return Ok(None);
    }
    if entry.encrypted() {
        return Err(invalid(format!(
            "The entry {} of the zip archive is encrypted. Make the zip without a password.",
            shown(&path)
        )));
    }
    // Some writers leave a mode of zero, which means that they know none.
    let mode = entry.unix_mode().filter(|mode| *mode != 0);
    let kind = match mode.map(|mode| mode & S_IFMT) {
        _ if name.ends_with(b"/") => Kind::Directory,
        Some(S_IFDIR) => Kind::Directory,
        Some(S_IFLNK) => Kind::Link,
        _ => Kind::File,
    };
    let mode = match kind {
        Kind::Directory => mode.map_or(0o755, |mode| mode & 0o7777),
        Kind::File => mode.map_or(0o644, |mode| mode & 0o7777),
        Kind::Link => 0o777,
    };
    Ok(Some(Item { index, kind, mode, path }))
}

/// The name of an entry, with `/` between its parts.
fn name<R: std::io::Read>(entry: &ZipFile<'_, R>) -> Result<Vec<u8>, BuildFailure> {
    let raw = entry.name_raw();
    let from_windows =
        matches!(entry.system(), System::Dos | System::WindowsNTFS | System::VFAT | System::Os2);
    let mut name = if std::str::from_utf8(raw).is_ok() || !from_windows {
        // Names of Unix are bytes.
        raw.to_vec()
    } else {
        let name = entry.name().map_err(|_| {
            invalid(format!("The entry {} of the zip archive has a name that is no text.", shown(raw)))
        })?;
        name.into_owned().into_bytes()
    };
    // Windows PowerShell 5.1 and others write names as Windows has them. On Unix, a backslash is
    // a letter like others.
    if from_windows && !name.contains(&b'/') {
        for byte in name.iter_mut().filter(|byte| **byte == b'\\') {
            *byte = b'/';
        }
    }
    Ok(name)
}

/// The entry's path below the archive's root; refuses what points elsewhere. A slash in front of
/// all is left out, as `unzip` does.
fn relative_path(name: &[u8]) -> Result<Vec<u8>, BuildFailure> {
    if name.contains(&0) {
        return Err(invalid(format!("The entry {} of the zip archive has a NUL in its name.", shown(name))));
    }
    let parts: Vec<&[u8]> = parts(name).collect();
    if parts.contains(&&b".."[..]) {
        return Err(invalid(format!(
            "The entry {} of the zip archive points outside of it. Names must be without `..`.",
            shown(name)
        )));
    }
    let path = parts.join(&b'/');
    if path.len() > PATH_BYTES || parts.iter().any(|part| part.len() > NAME_BYTES) {
        return Err(invalid(format!(
            "The entry {} of the zip archive has a longer name than a file can have.",
            shown(name)
        )));
    }
    Ok(path)
}

/// The parts of a path that mean something.
fn parts(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".")
}

/// Sorts what is in a directory right behind it: no name has a byte that is less than this one.
fn key(path: &[u8]) -> Vec<u8> {
    path.iter().map(|byte| if *byte == b'/' { 0 } else { *byte }).collect()
}

/// A name as a sentence has it: quoted, without control characters, not too long.
fn shown(name: &[u8]) -> String {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(&name[..name.len().min(MOST)]);
    format!("{text:?}{}", if name.len() > MOST { "…" } else { "" })
}
