//! Checks the zip and rewrites it as a tar stream, which the build microVM unpacks. The zip itself is read here, by
//! a memory-safe parser behind limits; nothing of it becomes a file on the host.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use zip::ZipArchive;
use zip::read::ZipFile;

use crate::failure::{BuildFailure, FailureCode};

/// What a zip may be at most.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveLimits {
    /// Bytes of the zip.
    pub zip_bytes: u64,
    /// Number of entries.
    pub entries: usize,
    /// Bytes of all files together.
    pub total_bytes: u64,
    /// Unpacked bytes per packed byte, over the whole archive; not applied below [`RATIO_FREE_BYTES`].
    pub ratio: u64,
}

/// Archives that unpack to less than this are never taken for bombs.
const RATIO_FREE_BYTES: u64 = 64 << 20;
/// Longest Dockerfile in bytes.
const DOCKERFILE_BYTES: u64 = 1 << 20;
/// Longest target of a symbolic link in bytes.
const LINK_BYTES: u64 = 4096;

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self { zip_bytes: 1 << 30, entries: 100_000, total_bytes: 8 << 30, ratio: 200 }
    }
}

/// What a good archive holds.
#[derive(Debug)]
pub(crate) struct Context {
    /// Text of the Dockerfile.
    pub(crate) dockerfile: String,
}

fn invalid(message: impl Into<String>) -> BuildFailure {
    BuildFailure::new(FailureCode::ArchiveInvalid, message)
}

/// Reads `zip`, writes `tar`.
pub(crate) fn to_tar(zip: &Path, tar: &Path, limits: &ArchiveLimits) -> Result<Context, BuildFailure> {
    let input = File::open(zip).map_err(|error| BuildFailure::platform("read the code artifact", &error))?;
    let packed_bytes = input.metadata().map_or(0, |metadata| metadata.len());
    let mut archive = ZipArchive::new(input)
        .map_err(|error| invalid(format!("The code artifact is not a readable zip archive: {error}.")))?;
    if archive.len() > limits.entries {
        return Err(invalid(format!(
            "The zip archive has {} entries; at most {} are allowed.",
            archive.len(),
            limits.entries
        )));
    }
    if archive.index_for_name("Dockerfile").is_none() {
        return Err(BuildFailure::new(
            FailureCode::ArchiveDockerfileNotFound,
            "The zip archive has no file named Dockerfile at its root.",
        ));
    }
    let output =
        File::create(tar).map_err(|error| BuildFailure::platform("write the build context", &error))?;
    let mut rewriter = Rewriter {
        tar: tar::Builder::new(io::BufWriter::with_capacity(1 << 20, output)),
        total_bytes: 0,
        allowed_bytes: limits
            .total_bytes
            .min(RATIO_FREE_BYTES.max(packed_bytes.saturating_mul(limits.ratio))),
        seen: BTreeSet::new(),
        links: BTreeSet::new(),
        dockerfile: None,
    };
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| {
            invalid(format!("Entry {index} of the zip archive is not readable: {error}."))
        })?;
        rewriter.entry(entry)?;
    }
    rewriter.finish()
}

struct Rewriter<W: Write> {
    tar: tar::Builder<W>,
    total_bytes: u64,
    allowed_bytes: u64,
    seen: BTreeSet<PathBuf>,
    links: BTreeSet<PathBuf>,
    dockerfile: Option<String>,
}

impl<W: Write> Rewriter<W> {
    fn entry<R: Read>(&mut self, mut entry: ZipFile<'_, R>) -> Result<(), BuildFailure> {
        let name = entry
            .name()
            .map_err(|_| invalid("An entry of the zip archive has an unreadable name."))?
            .into_owned();
        if entry.encrypted() {
            return Err(invalid(format!("The entry {name:?} of the zip archive is encrypted.")));
        }
        let path = relative_path(&name)?;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        if path.ancestors().skip(1).any(|parent| self.links.contains(parent)) {
            return Err(invalid(format!(
                "The entry {name:?} of the zip archive lies behind a symbolic link."
            )));
        }
        if !self.seen.insert(path.clone()) && !entry.is_dir() {
            return Err(invalid(format!("The entry {name:?} occurs twice in the zip archive.")));
        }
        let mut header = tar::Header::new_gnu();
        header.set_mtime(modified(&entry));
        header.set_uid(0);
        header.set_gid(0);
        if entry.is_dir() {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(entry.unix_mode().map_or(0o755, |mode| mode & 0o7777));
            header.set_size(0);
            self.append(&mut header, &path, io::empty())
        } else if entry.is_symlink() {
            self.link(&mut header, &path, &mut entry)
        } else {
            header.set_entry_type(tar::EntryType::Regular);
            header.set_mode(entry.unix_mode().map_or(0o644, |mode| mode & 0o7777));
            self.file(&mut header, &path, &mut entry)
        }
    }

    fn file(
        &mut self,
        header: &mut tar::Header,
        path: &Path,
        entry: &mut impl Sized64,
    ) -> Result<(), BuildFailure> {
        let size = entry.declared_bytes();
        self.total_bytes = self.total_bytes.saturating_add(size);
        if self.total_bytes > self.allowed_bytes {
            return Err(invalid(format!(
                "The zip archive unpacks to more than {} bytes, which is too much for its size.",
                self.allowed_bytes
            )));
        }
        header.set_size(size);
        if path == Path::new("Dockerfile") {
            let mut text = Vec::new();
            entry
                .take(DOCKERFILE_BYTES + 1)
                .read_to_end(&mut text)
                .map_err(|error| invalid(format!("The Dockerfile is not readable: {error}.")))?;
            if text.len() as u64 > DOCKERFILE_BYTES {
                return Err(invalid("The Dockerfile is longer than 1 MiB."));
            }
            header.set_size(text.len() as u64);
            self.append(header, path, text.as_slice())?;
            let text = String::from_utf8(text).map_err(|_| invalid("The Dockerfile is not UTF-8 text."))?;
            self.dockerfile = Some(text);
            return Ok(());
        }
        // An entry that holds more or less than it declares would put the tar out of step.
        let mut exact = Exact { inner: entry.take(size + 1), left: size, path };
        self.append(header, path, &mut exact)?;
        exact.at_end()
    }

    fn link(
        &mut self,
        header: &mut tar::Header,
        path: &Path,
        entry: &mut impl Read,
    ) -> Result<(), BuildFailure> {
        let mut target = String::new();
        let read = entry.take(LINK_BYTES).read_to_string(&mut target);
        read.map_err(|_| invalid(format!("The symbolic link {} is not readable.", path.display())))?;
        if !stays_inside(path, Path::new(&target)) {
            return Err(invalid(format!(
                "The symbolic link {} points to {target:?}, outside of the archive.",
                path.display()
            )));
        }
        self.links.insert(path.to_owned());
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_mode(0o777);
        header.set_size(0);
        self.tar.append_link(header, path, &target).map_err(|error| full(&error))
    }

    fn append(&mut self, header: &mut tar::Header, path: &Path, data: impl Read) -> Result<(), BuildFailure> {
        self.tar.append_data(header, path, data).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                invalid(format!("The entry {} of the zip archive is damaged: {error}.", path.display()))
            }
            _ => full(&error),
        })
    }

    fn finish(self) -> Result<Context, BuildFailure> {
        let mut output = self.tar.into_inner().map_err(|error| full(&error))?;
        output.flush().map_err(|error| full(&error))?;
        let dockerfile = self.dockerfile.ok_or_else(|| {
            BuildFailure::new(
                FailureCode::ArchiveDockerfileNotFound,
                "Dockerfile is not a file in the zip archive.",
            )
        })?;
        Ok(Context { dockerfile })
    }
}

fn full(error: &io::Error) -> BuildFailure {
    BuildFailure::platform("write the build context", error)
}

/// A reader that knows how long it claims to be.
trait Sized64: Read {
    fn declared_bytes(&self) -> u64;
}

impl<R: Read> Sized64 for ZipFile<'_, R> {
    fn declared_bytes(&self) -> u64 {
        self.size()
    }
}

struct Exact<'a, R> {
    inner: R,
    left: u64,
    path: &'a Path,
}

impl<R: Read> Read for Exact<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let n = self.inner.read(&mut buffer[..wanted])?;
        if n == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it is shorter than it declares"));
        }
        self.left -= n as u64;
        Ok(n)
    }
}

impl<R: Read> Exact<'_, R> {
    /// Reads past the declared end, which also makes the zip reader check the entry's CRC.
    fn at_end(mut self) -> Result<(), BuildFailure> {
        match self.inner.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(invalid(format!("The entry {} is longer than it declares.", self.path.display()))),
            Err(error) => Err(invalid(format!("The entry {} is damaged: {error}.", self.path.display()))),
        }
    }
}

/// The entry's path below the archive's root; refuses what points elsewhere.
fn relative_path(name: &str) -> Result<PathBuf, BuildFailure> {
    let escape = || invalid(format!("The entry {name:?} of the zip archive points outside of it."));
    if name.contains(['\0', '\\']) {
        return Err(escape());
    }
    let mut path = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return Err(escape()),
        }
    }
    Ok(path)
}

/// Whether a link at `path` with this target stays below the archive's root.
fn stays_inside(path: &Path, target: &Path) -> bool {
    let mut depth = path.components().count() as i64 - 1;
    for component in target.components() {
        match component {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir => depth -= 1,
            Component::RootDir | Component::Prefix(_) => return false,
        }
        if depth < 0 {
            return false;
        }
    }
    !target.as_os_str().is_empty()
}

/// Modification time in seconds since 1970; DOS times have no zone and are taken as UTC.
fn modified<R: Read>(entry: &ZipFile<'_, R>) -> u64 {
    let moment = entry.last_modified().and_then(|dos| {
        let date = jiff::civil::DateTime::new(
            dos.year() as i16,
            dos.month() as i8,
            dos.day() as i8,
            dos.hour() as i8,
            dos.minute() as i8,
            dos.second() as i8,
            0,
        );
        date.ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()
    });
    moment.map_or(0, |zoned| zoned.timestamp().as_second().max(0) as u64)
}

#[cfg(test)]
mod tests;
