//! Makes the zip of a build from a directory.

use std::fs::{self, File, Metadata};
use std::io::{self, Cursor, Seek, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::dockerignore::DockerIgnore;

/// A zip and how much is in it.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The zip's bytes.
    pub(crate) zip: Vec<u8>,
    /// Number of files and links.
    pub(crate) files: usize,
}

/// Packs `directory`, which must have a Dockerfile, without what its `.dockerignore` names. Modes, links and times of
/// modification are kept; owners are not.
pub(crate) fn pack(directory: &Path) -> anyhow::Result<Archive> {
    if !directory.is_dir() {
        bail!("{} is not a directory", directory.display());
    }
    if !directory.join("Dockerfile").is_file() {
        bail!("{} has no file named Dockerfile", directory.display());
    }
    let ignore = match fs::read_to_string(directory.join(".dockerignore")) {
        Ok(text) => DockerIgnore::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => DockerIgnore::default(),
        Err(error) => return Err(error).with_context(|| format!("{}/.dockerignore", directory.display())),
    };
    let mut packer =
        Packer { top: directory, ignore, zip: ZipWriter::new(Cursor::new(Vec::new())), files: 0 };
    packer.directory(&mut Vec::new())?;
    let zip = packer.zip.finish().context("the zip cannot be written")?.into_inner();
    Ok(Archive { zip, files: packer.files })
}

struct Packer<'a, W: Write + Seek> {
    top: &'a Path,
    ignore: DockerIgnore,
    zip: ZipWriter<W>,
    files: usize,
}

impl<W: Write + Seek> Packer<'_, W> {
    /// Packs what is in the directory `parts` below the top.
    fn directory(&mut self, parts: &mut Vec<String>) -> anyhow::Result<()> {
        let path: PathBuf = parts.iter().fold(self.top.to_path_buf(), |path, part| path.join(part));
        let unreadable = || format!("{} cannot be read", path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).with_context(unreadable)? {
            let name = entry.with_context(unreadable)?.file_name();
            let name = name.into_string();
            names.push(name.map_err(|name| {
                anyhow::anyhow!("{} has a name that is not UTF-8", path.join(name).display())
            })?);
        }
        // The same directory always makes the same zip.
        names.sort();
        for name in names {
            parts.push(name);
            self.entry(parts)?;
            parts.pop();
        }
        Ok(())
    }

    fn entry(&mut self, parts: &mut Vec<String>) -> anyhow::Result<()> {
        let name = parts.join("/");
        let path = self.top.join(&name);
        let metadata =
            path.symlink_metadata().with_context(|| format!("{} cannot be read", path.display()))?;
        let ignored = self.ignore.ignores(&parts.iter().map(String::as_str).collect::<Vec<_>>());
        if metadata.is_dir() {
            if ignored && self.ignore.may_skip_directories() {
                return Ok(());
            }
            if !ignored {
                self.zip.add_directory(&*name, options(&metadata)).with_context(|| name.clone())?;
            }
            return self.directory(parts);
        }
        if ignored {
            return Ok(());
        }
        self.files += 1;
        if metadata.is_symlink() {
            let target =
                fs::read_link(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            let target = target.to_string_lossy().into_owned();
            return self.zip.add_symlink(&*name, target, options(&metadata)).with_context(|| name.clone());
        }
        if !metadata.is_file() {
            bail!("{} is neither a file nor a directory nor a link", path.display());
        }
        let mut file = File::open(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let options = options(&metadata).large_file(metadata.len() > u64::from(u32::MAX));
        self.zip.start_file(&*name, options).with_context(|| name.clone())?;
        io::copy(&mut file, &mut self.zip).with_context(|| format!("{} cannot be packed", path.display()))?;
        Ok(())
    }
}

fn options(metadata: &Metadata) -> SimpleFileOptions {
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
    let options = options.unix_permissions(metadata.permissions().mode() & 0o7777);
    match modified(metadata) {
        Some(modified) => options.last_modified_time(modified),
        None => options,
    }
}

/// Time of modification in UTC; `None` before 1980, where the times of zips begin.
fn modified(metadata: &Metadata) -> Option<DateTime> {
    let time = jiff::Timestamp::try_from(metadata.modified().ok()?).ok()?.to_zoned(jiff::tz::TimeZone::UTC);
    let (year, month, day) = (u16::try_from(time.year()).ok()?, time.month() as u8, time.day() as u8);
    let (hour, minute, second) = (time.hour() as u8, time.minute() as u8, time.second() as u8);
    DateTime::from_date_and_time(year, month, day, hour, minute, second).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    /// Name, mode and content of every entry.
    fn entries(zip: &[u8]) -> BTreeMap<String, (u32, String)> {
        let mut zip = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        let mut entries = BTreeMap::new();
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).unwrap();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            entries.insert(entry.name().unwrap().into_owned(), (entry.unix_mode().unwrap(), content));
        }
        entries
    }

    #[test]
    fn modes_and_links_are_kept_and_ignored_files_stay_out() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::create_dir_all(at("bin")).unwrap();
        fs::create_dir_all(at("target/debug")).unwrap();
        for (name, content, mode) in [
            ("Dockerfile", "FROM scratch", 0o644),
            (".dockerignore", "target\n*.pem", 0o644),
            ("bin/start", "#!/bin/sh", 0o755),
            ("bin/secret", "s", 0o600),
            ("key.pem", "k", 0o600),
            ("target/debug/app", "x", 0o755),
        ] {
            fs::write(at(name), content).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        symlink("start", at("bin/run")).unwrap();

        let archive = pack(directory.path()).unwrap();
        let found = entries(&archive.zip);
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, [".dockerignore", "Dockerfile", "bin/", "bin/run", "bin/secret", "bin/start"]);
        assert_eq!(archive.files, 5);
        assert_eq!(found["bin/start"], (0o100_755, "#!/bin/sh".to_owned()));
        assert_eq!(found["bin/secret"].0 & 0o777, 0o600);
        assert_eq!(found["bin/run"], (0o120_777, "start".to_owned()));
        assert_eq!(
            pack(directory.path()).unwrap().zip,
            archive.zip,
            "the zip depends on the directory alone"
        );
    }

    #[test]
    fn exceptions_are_found_inside_ignored_directories() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("docs")).unwrap();
        for (name, content) in [
            ("Dockerfile", ""),
            (".dockerignore", "docs\n!docs/keep"),
            ("docs/keep", "1"),
            ("docs/drop", "2"),
        ] {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let found = entries(&pack(directory.path()).unwrap().zip);
        assert!(found.contains_key("docs/keep") && !found.contains_key("docs/drop"));
    }

    #[test]
    fn a_directory_without_a_dockerfile_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let error = pack(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with("has no file named Dockerfile"), "{error}");
        let error = pack(&directory.path().join("absent")).unwrap_err().to_string();
        assert!(error.ends_with("is not a directory"), "{error}");
    }
}
