//! The files of the root disk, read without mounting it: nothing of an image is given
//! to the host's kernel.

use std::collections::HashSet;
use std::io;

use ext4_view::{Ext4, Ext4Error, File, FileType, PathBuf};

use crate::findings::Findings;
use crate::geometry::Bounded;
use crate::limit::Limit;
use crate::report::{Place, Search};
use crate::secrets::LONGEST_BYTES;

/// What is searched at once.
const PIECE_BYTES: usize = 1 << 20;
/// Deeper directories are not entered: a damaged disk may have circles.
const MOST_LEVELS: usize = 100;
/// Bytes of the paths of directories that are known and not searched yet.
const MOST_PENDING_BYTES: usize = 32 << 20;
/// Longer paths are left out, as Linux has none (PATH_MAX).
const MOST_PATH_BYTES: usize = 4096;
/// Bytes of one file that are searched. An inode may claim 8 TiB and have no block.
const MOST_FILE_BYTES: u64 = 1 << 30;
/// Bytes that are searched of a file that claims more than its disk has: nearly all of it is holes.
const MOST_SPARSE_BYTES: u64 = 16 << 20;
/// Bytes of a list that is read as a whole: `/etc/passwd`, or the files of a package.
const MOST_LIST_BYTES: usize = 8 << 20;
/// Bytes of the names of packaged files.
const MOST_PACKAGED_BYTES: usize = 64 << 20;
/// Where packages keep what everybody has.
const PACKAGED: [&str; 4] = ["/usr/", "/lib/", "/bin/", "/sbin/"];
const PACKAGE_LISTS: &str = "/var/lib/dpkg/info";

/// An image's root disk.
pub(crate) struct Disk {
    ext4: Ext4,
    bytes: u64,
    limit: Limit,
}

/// What could not be searched.
#[derive(Default)]
struct LeftOut {
    unreadable: u64,
    cut: u64,
    directories: u64,
}

impl Disk {
    pub(crate) fn open(file: std::fs::File, limit: Limit) -> io::Result<Self> {
        let disk = Bounded::new(file)?;
        disk.check()?;
        let bytes = disk.bytes;
        Ok(Self { ext4: Ext4::load(Box::new(disk))?, bytes, limit })
    }

    /// Name of a user by the image's `/etc/passwd`.
    pub(crate) fn user_name(&self, uid: u32) -> Option<String> {
        let passwd = self.read_list(&PathBuf::new("/etc/passwd")).ok()?;
        let passwd = String::from_utf8_lossy(&passwd);
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, number) = (fields.next()?, fields.nth(1)?);
            (number.parse() == Ok(uid)).then(|| name.to_owned())
        })
    }

    /// Searches the files. Those below `/usr` that came with a Debian package are left out:
    /// everybody has them, and test keys are among them.
    pub(crate) fn search(&self, findings: &mut Findings, search: &mut Search) {
        let packaged = self.packaged_files();
        let mut left_out = LeftOut::default();
        let (mut pending, mut pending_bytes) = (vec![(PathBuf::new("/"), 0)], 0);
        while let Some((directory, level)) = pending.pop() {
            pending_bytes -= length(&directory).min(pending_bytes);
            let Ok(entries) = self.ext4.read_dir(&directory) else {
                left_out.unreadable += 1;
                continue;
            };
            for entry in entries {
                if self.limit.is_reached() {
                    search.left_out.push("Time was over before all files were searched.".to_owned());
                    return;
                }
                let Ok(entry) = entry else {
                    // The rest of a damaged directory cannot be told.
                    left_out.unreadable += 1;
                    break;
                };
                let name = entry.file_name();
                if name == "." || name == ".." {
                    continue;
                }
                let path = entry.path();
                match entry.file_type() {
                    Ok(FileType::Directory) => {
                        let bytes = length(&path);
                        if level >= MOST_LEVELS
                            || bytes > MOST_PATH_BYTES
                            || pending_bytes + bytes > MOST_PENDING_BYTES
                        {
                            left_out.directories += 1;
                            continue;
                        }
                        pending_bytes += bytes;
                        pending.push((path, level + 1));
                    }
                    Ok(FileType::Regular) if length(&path) <= MOST_PATH_BYTES => {
                        let shown = path.display().to_string();
                        if !packaged.contains(&shown) {
                            match self.search_file(&path, &shown, findings, search) {
                                Ok(Whole::Yes) => {}
                                Ok(Whole::No) => left_out.cut += 1,
                                Err(_) => left_out.unreadable += 1,
                            }
                        }
                    }
                    Ok(FileType::Regular) | Err(_) => left_out.unreadable += 1,
                    Ok(_) => {}
                }
            }
        }
        left_out.tell(search);
    }

    fn search_file(
        &self,
        path: &PathBuf,
        shown: &str,
        findings: &mut Findings,
        search: &mut Search,
    ) -> Result<Whole, Ext4Error> {
        let mut file = self.ext4.open(path)?;
        search.files += 1;
        let claimed = file.metadata().len();
        let most = if claimed > self.bytes { MOST_SPARSE_BYTES } else { MOST_FILE_BYTES };
        let mut piece = vec![0; claimed.min(PIECE_BYTES as u64) as usize];
        let (mut kept, mut read) = (0, 0);
        loop {
            let filled = kept + fill(&mut file, &mut piece[kept..])?;
            if filled == kept {
                return Ok(Whole::Yes);
            }
            read += (filled - kept) as u64;
            search.file_bytes += (filled - kept) as u64;
            findings.search(&piece[..filled], || Place::File { path: shown.to_owned() });
            if filled < piece.len() || self.limit.is_reached() {
                return Ok(Whole::Yes);
            }
            if read >= most {
                return Ok(Whole::No);
            }
            kept = LONGEST_BYTES.min(filled / 2);
            piece.copy_within(filled - kept..filled, 0);
        }
    }

    /// A file of text, if it is as short as such lists are.
    fn read_list(&self, path: &PathBuf) -> io::Result<Vec<u8>> {
        let mut file = self.ext4.open(path)?;
        let bytes = usize::try_from(file.metadata().len()).unwrap_or(usize::MAX);
        if bytes > MOST_LIST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let mut text = vec![0; bytes];
        let filled = fill(&mut file, &mut text)?;
        text.truncate(filled);
        Ok(text)
    }

    fn packaged_files(&self) -> HashSet<String> {
        let (mut files, mut bytes) = (HashSet::new(), 0);
        let lists = self.ext4.read_dir(PACKAGE_LISTS).into_iter().flatten().flatten();
        for list in lists.filter(|entry| entry.file_name().as_ref().ends_with(b".list")) {
            if self.limit.is_reached() || bytes > MOST_PACKAGED_BYTES {
                break;
            }
            let text = self.read_list(&list.path()).unwrap_or_default();
            bytes += text.len();
            let paths = String::from_utf8_lossy(&text);
            let below =
                paths.lines().filter(|path| PACKAGED.iter().any(|directory| path.starts_with(directory)));
            // With a merged /usr, /lib and the others are links into it.
            files.extend(
                below.map(
                    |path| if path.starts_with("/usr/") { path.to_owned() } else { format!("/usr{path}") },
                ),
            );
        }
        files
    }
}

/// Whether a file was searched to its end.
enum Whole {
    Yes,
    No,
}

impl LeftOut {
    fn tell(&self, search: &mut Search) {
        if self.unreadable > 0 {
            search.left_out.push(format!("{} files or directories could not be read.", self.unreadable));
        }
        if self.cut > 0 {
            search.left_out.push(format!(
                "{} files are longer than is searched of one file; only their beginning was.",
                self.cut
            ));
        }
        if self.directories > 0 {
            search.left_out.push(format!("{} directories are too many or too deep.", self.directories));
        }
    }
}

fn length(path: &PathBuf) -> usize {
    path.as_ref().len()
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> Result<usize, Ext4Error> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_bytes(&mut buffer[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}
