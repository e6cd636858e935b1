//! Checks the zip and rewrites it as a tar stream, which the build microVM unpacks. Nothing of it
//! becomes a file of the host: a symbolic link is carried on as a link, wherever it points to.
//!
//! What `unzip` takes is taken. Refused is what has no meaning (a file below a file) or what would
//! let an entry write elsewhere than its name says (a file below a link, `..`).
//!
//! Reading order: `end_record` (what the directory claims, before it is read), `plan` (names, and
//! where the Dockerfile is), this file.

mod end_record;
mod plan;

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt as _;

use serde::{Deserialize, Serialize};
use zip::read::ZipFile;
use zip::{CompressionMethod, ZipArchive};

use crate::dockerfile::{self, Scan};
use crate::failure::{BuildFailure, FailureCode};
use end_record::Budgeted;
use plan::{Item, Kind, Plan};

/// What a zip may be at most.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ArchiveLimits {
    /// Bytes of the zip.
    pub zip_bytes: u64,
    /// Number of entries.
    pub entries: usize,
    /// Bytes of the central directory: names, attributes and comments of all entries.
    pub directory_bytes: u64,
    /// Bytes of all files together.
    pub total_bytes: u64,
    /// Unpacked bytes per packed byte, over the whole archive; not applied below
    /// [`RATIO_FREE_BYTES`].
    pub ratio: u64,
}

/// Archives that unpack to less than this are never taken for bombs.
const RATIO_FREE_BYTES: u64 = 64 << 20;
/// Longest Dockerfile in bytes.
const DOCKERFILE_BYTES: u64 = 1 << 20;
/// Longest target of a symbolic link in bytes, as on Linux (PATH_MAX without its NUL).
const LINK_BYTES: u64 = 4095;

/// Longest name or target that a header of a tar has room for.
const SHORT_NAME_BYTES: usize = 100;
/// What GNU tar calls an entry that is the name of the next.
const LONG_NAME: &[u8] = b"././@LongLink";

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            zip_bytes: 1 << 30,
            entries: 100_000,
            directory_bytes: 32 << 20,
            total_bytes: 8 << 30,
            ratio: 200,
        }
    }
}

/// What a good archive holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Context {
    /// Text of the Dockerfile.
    pub dockerfile: String,
    /// What there is to know of it before the build.
    pub scan: Scan,
}

/// A zip that can be read from anywhere.
type Zip = ZipArchive<BufReader<Budgeted>>;

fn invalid(message: impl Into<String>) -> BuildFailure {
    BuildFailure::new(FailureCode::ArchiveInvalid, message)
}

/// Reads `zip`, writes `tar`.
pub(crate) fn to_tar(zip: File, tar: File, limits: &ArchiveLimits) -> Result<Context, BuildFailure> {
    let packed_bytes = end_record::check(&zip, limits)?;
    let (input, budget) = Budgeted::new(zip, limits.directory_bytes);
    let mut archive = ZipArchive::new(BufReader::new(input))
        .map_err(|error| invalid(format!("The code artifact is not a readable zip archive: {error}.")))?;
    if archive.len() > limits.entries {
        return Err(end_record::too_many(archive.len() as u64, limits));
    }
    budget.lift();
    let plan = Plan::make(&mut archive)?;
    let dockerfile = plan.dockerfile(&mut archive)?;
    let dockerfile = read_dockerfile(&mut archive, dockerfile)?;
    let scan = dockerfile::scan(&dockerfile)?;
    let mut rewriter = Rewriter {
        tar: tar::Builder::new(io::BufWriter::with_capacity(1 << 20, tar)),
        total_bytes: 0,
        allowed_bytes: limits
            .total_bytes
            .min(RATIO_FREE_BYTES.max(packed_bytes.saturating_mul(limits.ratio))),
    };
    for item in plan.items() {
        rewriter.entry(open(&mut archive, item)?, item)?;
    }
    rewriter.finish()?;
    Ok(Context { dockerfile, scan })
}

/// What `unzip` takes, too.
const METHODS: [CompressionMethod; 4] = [
    CompressionMethod::Stored,
    CompressionMethod::Deflated,
    CompressionMethod::Deflate64,
    CompressionMethod::Bzip2,
];

/// Opens an entry's content.
fn open<'a>(archive: &'a mut Zip, item: &Item) -> Result<ZipFile<'a, BufReader<Budgeted>>, BuildFailure> {
    let method = archive.by_index_raw(item.index).map_err(|error| unreadable(item, &error))?.compression();
    if !METHODS.contains(&method) {
        return Err(invalid(format!(
            "The entry {} of the zip archive is compressed by a method that is not supported ({method}). \
             Make the zip with deflate, the usual method.",
            item.shown()
        )));
    }
    archive.by_index(item.index).map_err(|error| unreadable(item, &error))
}

fn unreadable(item: &Item, error: &dyn std::fmt::Display) -> BuildFailure {
    invalid(format!("The entry {} of the zip archive is not readable: {error}.", item.shown()))
}

fn read_dockerfile(archive: &mut Zip, item: &Item) -> Result<String, BuildFailure> {
    let mut text = Vec::new();
    open(archive, item)?
        .take(DOCKERFILE_BYTES + 1)
        .read_to_end(&mut text)
        .map_err(|error| invalid(format!("The Dockerfile is not readable: {error}.")))?;
    if text.len() as u64 > DOCKERFILE_BYTES {
        return Err(invalid("The Dockerfile is longer than 1 MiB."));
    }
    String::from_utf8(text).map_err(|_| invalid("The Dockerfile is not UTF-8 text."))
}

/// The target of a symbolic link, which a zip has as the link's content.
fn read_link(entry: &mut impl Read, item: &Item) -> Result<Vec<u8>, BuildFailure> {
    let mut target = Vec::new();
    entry.take(LINK_BYTES + 1).read_to_end(&mut target).map_err(|error| unreadable(item, &error))?;
    if target.is_empty() || target.len() as u64 > LINK_BYTES || target.contains(&0) {
        return Err(invalid(format!(
            "The symbolic link {} of the zip archive has a target that no link can have.",
            item.shown()
        )));
    }
    Ok(target)
}

struct Rewriter<W: Write> {
    tar: tar::Builder<W>,
    total_bytes: u64,
    allowed_bytes: u64,
}

impl<W: Write> Rewriter<W> {
    fn entry<R: Read + Seek>(&mut self, mut entry: ZipFile<'_, R>, item: &Item) -> Result<(), BuildFailure> {
        let mut header = tar::Header::new_gnu();
        header.set_mtime(modified(&entry));
        header.set_uid(0);
        header.set_gid(0);
        header.set_mode(item.mode);
        match item.kind {
            Kind::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                self.append(&mut header, item, io::empty())
            }
            Kind::Link => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                let target = read_link(&mut entry, item)?;
                self.name(tar::EntryType::GNULongLink, &target).map_err(|error| full(&error))?;
                let short = &mut header.as_old_mut().linkname;
                let most = target.len().min(short.len());
                short[..most].copy_from_slice(&target[..most]);
                self.append(&mut header, item, io::empty())
            }
            Kind::File => {
                header.set_entry_type(tar::EntryType::Regular);
                self.file(&mut header, item, &mut entry)
            }
        }
    }

    fn file<R: Read>(
        &mut self,
        header: &mut tar::Header,
        item: &Item,
        entry: &mut ZipFile<'_, R>,
    ) -> Result<(), BuildFailure> {
        let size = entry.size();
        self.total_bytes = self.total_bytes.saturating_add(size);
        if self.total_bytes > self.allowed_bytes {
            return Err(invalid(format!(
                "The zip archive unpacks to more than {} bytes, which is too much for its size.",
                self.allowed_bytes
            )));
        }
        header.set_size(size);
        // An entry that holds more or less than it declares would put the tar out of step.
        let mut exact = Exact { inner: entry.take(size + 1), left: size, item };
        self.append(header, item, &mut exact)?;
        exact.at_end()
    }

    fn append(&mut self, header: &mut tar::Header, item: &Item, data: impl Read) -> Result<(), BuildFailure> {
        let name = item.path().as_os_str().as_bytes();
        self.name(tar::EntryType::GNULongName, name).map_err(|error| full(&error))?;
        let short = &mut header.as_old_mut().name;
        let most = name.len().min(short.len());
        short[..most].copy_from_slice(&name[..most]);
        header.set_cksum();
        self.tar.append(header, data).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                invalid(format!("The entry {} of the zip archive is damaged: {error}.", item.shown()))
            }
            _ => full(&error),
        })
    }

    /// Writes a name or target that is too long for a header in front of it (tar(5), "GNU tar
    /// archives"), whatever bytes it has: the library's own way is for text only.
    fn name(&mut self, kind: tar::EntryType, name: &[u8]) -> io::Result<()> {
        if name.len() <= SHORT_NAME_BYTES {
            return Ok(());
        }
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..LONG_NAME.len()].copy_from_slice(LONG_NAME);
        header.set_entry_type(kind);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(name.len() as u64 + 1);
        header.set_cksum();
        self.tar.append(&header, name.chain([0].as_slice()))
    }

    fn finish(self) -> Result<(), BuildFailure> {
        let mut output = self.tar.into_inner().map_err(|error| full(&error))?;
        output.flush().map_err(|error| full(&error))
    }
}

fn full(error: &io::Error) -> BuildFailure {
    BuildFailure::platform("write the build context", error)
}

struct Exact<'a, R> {
    inner: R,
    left: u64,
    item: &'a Item,
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
        let shown = self.item.shown();
        match self.inner.read(&mut [0]) {
            Ok(0) => Ok(()),
            Ok(_) => Err(invalid(format!("The entry {shown} is longer than it declares."))),
            Err(error) => Err(invalid(format!("The entry {shown} is damaged: {error}."))),
        }
    }
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
