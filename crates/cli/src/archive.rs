//! Makes the zip of a build from a directory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Cursor, Seek, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::dockerignore::{self, DockerIgnore};

/// A zip and how much is in it.
#[derive(Debug)]
pub(crate) struct Archive {
    /// The zip's bytes.
    pub(crate) zip: Vec<u8>,
    /// Number of files and links.
    pub(crate) files: usize,
}

/// Packs `directory`, which must have a Dockerfile, without sockets and what its `.dockerignore`
/// names. Modes, links and times of modification are kept; owners are not.
pub(crate) fn pack(directory: &Path) -> anyhow::Result<Archive> {
    if !directory.is_dir() {
        bail!("{} is not a directory", directory.display());
    }
    if !directory.join("Dockerfile").is_file() {
        bail!("{} has no file named Dockerfile", directory.display());
    }
    let mut packer = Packer {
        top: directory,
        ignore: ignore_file(directory)?,
        zip: ZipWriter::new(Cursor::new(Vec::new())),
        files: 0,
        names: Names::default(),
    };
    packer.directory(&mut Vec::new())?;
    let mut zip = packer.zip.finish().context("the zip cannot be written")?.into_inner();
    packer.names.restore(&mut zip)?;
    Ok(Archive { zip, files: packer.files })
}

/// What stays out, by the file that the builder goes by too.
fn ignore_file(directory: &Path) -> anyhow::Result<DockerIgnore> {
    for name in [dockerignore::OF_DOCKERFILE, dockerignore::OF_ALL] {
        match fs::read(directory.join(name)) {
            Ok(text) => return Ok(DockerIgnore::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("{}/{name}", directory.display())),
        }
    }
    Ok(DockerIgnore::default())
}

struct Packer<'a, W: Write + Seek> {
    top: &'a Path,
    ignore: DockerIgnore,
    zip: ZipWriter<W>,
    files: usize,
    names: Names,
}

impl<W: Write + Seek> Packer<'_, W> {
    /// Packs what is in the directory `parts` below the top.
    fn directory(&mut self, parts: &mut Vec<OsString>) -> anyhow::Result<()> {
        let path = self.top.join(parts.iter().collect::<PathBuf>());
        let unreadable = || format!("{} cannot be read", path.display());
        let mut names = Vec::new();
        for entry in fs::read_dir(&path).with_context(unreadable)? {
            names.push(entry.with_context(unreadable)?.file_name());
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

    fn entry(&mut self, parts: &mut Vec<OsString>) -> anyhow::Result<()> {
        let relative: PathBuf = parts.iter().collect();
        let path = self.top.join(&relative);
        let unreadable = || format!("{} cannot be read", path.display());
        let metadata = path.symlink_metadata().with_context(unreadable)?;
        let bytes: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
        let ignored = self.ignore.ignores(&bytes);
        if metadata.is_dir() {
            if ignored && !self.ignore.may_keep_below(&bytes) {
                return Ok(());
            }
            if !ignored {
                let name = self.names.of(&relative, self.top)?;
                self.zip.add_directory(&*name, options(&metadata)).with_context(|| name.clone())?;
            }
            return self.directory(parts);
        }
        // Docker leaves sockets out too: there is nothing in them, and programs make
        // them where they work.
        if ignored || metadata.file_type().is_socket() {
            return Ok(());
        }
        self.files += 1;
        let name = self.names.of(&relative, self.top)?;
        if metadata.is_symlink() {
            let target = fs::read_link(&path).with_context(unreadable)?;
            let Some(target) = target.to_str() else {
                bail!("{} is a link to a name that is not UTF-8, which cannot be packed", path.display());
            };
            return self.zip.add_symlink(&*name, target, options(&metadata)).with_context(|| name.clone());
        }
        if !metadata.is_file() {
            bail!("{} is neither a file nor a directory nor a link", path.display());
        }
        let mut file = File::open(&path).with_context(unreadable)?;
        let options = options(&metadata).large_file(metadata.len() > u64::from(u32::MAX));
        self.zip.start_file(&*name, options).with_context(|| name.clone())?;
        io::copy(&mut file, &mut self.zip).with_context(|| format!("{} cannot be packed", path.display()))?;
        Ok(())
    }
}

/// Names that are not UTF-8. What writes zips takes none, so they go by others of the same length
/// until it is written.
#[derive(Default)]
struct Names {
    /// Names by those that stand for them.
    real: BTreeMap<String, Vec<u8>>,
}

impl Names {
    /// The name by which an entry is written.
    fn of(&mut self, path: &Path, top: &Path) -> anyhow::Result<String> {
        if let Some(name) = path.to_str() {
            return Ok(name.to_owned());
        }
        let bytes = path.as_os_str().as_bytes();
        let letters = b'a'..=b'z';
        // Every byte that is not ASCII becomes a letter: the digits of a number.
        for number in 0..10_000_usize {
            let mut left = number;
            let name = bytes.iter().map(|byte| {
                if byte.is_ascii() {
                    return char::from(*byte);
                }
                let letter = letters.clone().nth(left % 26).unwrap_or(b'a');
                left /= 26;
                char::from(letter)
            });
            let name: String = name.collect();
            if left == 0 && !self.real.contains_key(&name) && top.join(&name).symlink_metadata().is_err() {
                self.real.insert(name.clone(), bytes.to_vec());
                return Ok(name);
            }
        }
        bail!("{} has a name that is not UTF-8, and too many are like it", top.join(path).display())
    }

    /// Writes the names to where the zip has those that stand for them (PKWARE's
    /// APPNOTE.TXT, 4.3.7 and 4.3.12).
    fn restore(&self, zip: &mut [u8]) -> anyhow::Result<()> {
        if self.real.is_empty() {
            return Ok(());
        }
        let mut places = Vec::new();
        let mut archive = zip::ZipArchive::new(Cursor::new(&*zip)).context("the zip cannot be read")?;
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).context("the zip cannot be read")?;
            let written = String::from_utf8_lossy(entry.name_raw()).into_owned();
            if let Some(name) = self.real.get(written.trim_end_matches('/')) {
                places.push((entry.header_start() + 30, name));
                places.push((entry.central_header_start() + 46, name));
            }
        }
        drop(archive);
        for (place, name) in places {
            let place = usize::try_from(place)?;
            zip[place..place + name.len()].copy_from_slice(name);
        }
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

    /// The raw names of all entries, in their order.
    fn names(zip: &[u8]) -> Vec<Vec<u8>> {
        let mut zip = zip::ZipArchive::new(Cursor::new(zip)).unwrap();
        (0..zip.len()).map(|index| zip.by_index(index).unwrap().name_raw().to_vec()).collect()
    }

    #[test]
    fn sockets_stay_out_and_names_are_bytes() {
        use std::ffi::OsStr;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &[u8]| directory.path().join(OsStr::from_bytes(name));
        fs::create_dir(at(b"d\xe9")).unwrap();
        fs::create_dir(at(b"tmp")).unwrap();
        let files: [&[u8]; 6] =
            [b"Dockerfile", b"d\xe9/\xc3\xa9\xff", b"x\xe8", b"x\xe9", b"xa", "é".as_bytes()];
        for name in files {
            fs::write(at(name), name).unwrap();
        }
        symlink("xa", at(b"l\xe9")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at(b"tmp/puma.sock")).unwrap();
        let archive = pack(directory.path()).unwrap();
        let expected: [&[u8]; 9] = [
            b"Dockerfile",
            b"d\xe9/",
            b"d\xe9/\xc3\xa9\xff",
            b"l\xe9",
            b"tmp/",
            b"xa",
            b"x\xe8",
            b"x\xe9",
            "é".as_bytes(),
        ];
        let mut found = names(&archive.zip);
        found.sort();
        assert_eq!(found, expected);
        let mut zip = zip::ZipArchive::new(Cursor::new(&archive.zip)).unwrap();
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).unwrap();
            let (name, mut content) = (entry.name_raw().to_vec(), Vec::new());
            entry.read_to_end(&mut content).unwrap();
            assert!(name.ends_with(b"/") || content == name || content == b"xa", "{name:?} {content:?}");
        }
    }

    #[test]
    fn what_is_ignored_need_not_be_readable_nor_have_a_name_in_utf8() {
        use std::ffi::OsStr;
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for name in ["fixtures", "src"] {
            fs::create_dir(at(name)).unwrap();
        }
        let odd = at("fixtures").join(OsStr::from_bytes(b"\xe9"));
        symlink(OsStr::from_bytes(b"\xff"), odd).unwrap();
        for (name, content) in
            [("Dockerfile", ""), (".dockerignore", "*\n!src\n"), ("src/a", "1"), ("other", "2")]
        {
            fs::write(at(name), content).unwrap();
        }
        let found = names(&pack(directory.path()).unwrap().zip);
        assert_eq!(found, [&b".dockerignore"[..], b"Dockerfile", b"src/", b"src/a"]);
    }

    #[test]
    fn the_ignore_file_of_the_dockerfile_counts_instead_of_the_other() {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in [
            ("Dockerfile", ""),
            (".dockerignore", "*\n!src"),
            ("Dockerfile.dockerignore", "*\n!web"),
            ("src", "1"),
            ("web", "2"),
        ] {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let found = entries(&pack(directory.path()).unwrap().zip);
        let found: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(found, [".dockerignore", "Dockerfile", "Dockerfile.dockerignore", "web"]);
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
