//! The files of the root disk, read without mounting it: nothing of an image is given to the host's kernel.

use std::collections::HashSet;
use std::path::Path;

use ext4_view::{Ext4, Ext4Error, File, FileType, PathBuf};

use crate::findings::Findings;
use crate::inspect::Limit;
use crate::report::{Place, Search};
use crate::secrets::LONGEST_BYTES;

/// What is searched at once.
const PIECE_BYTES: usize = 1 << 20;
/// Deeper directories are not entered: a damaged disk may have circles.
const MOST_LEVELS: usize = 100;
/// Where packages keep what everybody has.
const PACKAGED: [&str; 4] = ["/usr/", "/lib/", "/bin/", "/sbin/"];
const PACKAGE_LISTS: &str = "/var/lib/dpkg/info";

/// An image's root disk.
pub(crate) struct Disk<'a> {
    ext4: Ext4,
    limit: Limit<'a>,
}

impl<'a> Disk<'a> {
    pub(crate) fn open(path: &Path, limit: Limit<'a>) -> Result<Self, Ext4Error> {
        Ok(Self { ext4: Ext4::load_from_path(path)?, limit })
    }

    /// Name of a user by the image's `/etc/passwd`.
    pub(crate) fn user_name(&self, uid: u32) -> Option<String> {
        let passwd = self.ext4.read_to_string("/etc/passwd").ok()?;
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let (name, number) = (fields.next()?, fields.nth(1)?);
            (number.parse() == Ok(uid)).then(|| name.to_owned())
        })
    }

    /// Searches the files. Those below `/usr` that came with a Debian package are left out: everybody has them, and test keys
    /// are among them.
    pub(crate) fn search(&self, findings: &mut Findings, search: &mut Search) {
        let packaged = self.packaged_files();
        let mut pending = vec![(PathBuf::new("/"), 0)];
        let mut unreadable = 0_u64;
        while let Some((directory, level)) = pending.pop() {
            let Ok(entries) = self.ext4.read_dir(&directory) else {
                unreadable += 1;
                continue;
            };
            for entry in entries {
                if self.limit.is_reached() {
                    search.left_out.push("Time was over before all files were searched.".to_owned());
                    return;
                }
                let Ok(entry) = entry else {
                    // The rest of a damaged directory cannot be told.
                    unreadable += 1;
                    break;
                };
                let name = entry.file_name();
                if name == "." || name == ".." {
                    continue;
                }
                match entry.file_type() {
                    Ok(FileType::Directory) if level < MOST_LEVELS => pending.push((entry.path(), level + 1)),
                    Ok(FileType::Regular) => {
                        let path = entry.path();
                        let shown = path.display().to_string();
                        if !packaged.contains(&shown)
                            && self.search_file(&path, &shown, findings, search).is_err()
                        {
                            unreadable += 1;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => unreadable += 1,
                }
            }
        }
        if unreadable > 0 {
            search.left_out.push(format!("{unreadable} files or directories could not be read."));
        }
    }

    fn search_file(
        &self,
        path: &PathBuf,
        shown: &str,
        findings: &mut Findings,
        search: &mut Search,
    ) -> Result<(), Ext4Error> {
        let mut file = self.ext4.open(path)?;
        search.files += 1;
        let mut piece = vec![0; PIECE_BYTES.min(file.metadata().len() as usize)];
        let mut kept = 0;
        loop {
            let filled = kept + fill(&mut file, &mut piece[kept..])?;
            if filled == kept {
                return Ok(());
            }
            search.file_bytes += (filled - kept) as u64;
            findings.search(&piece[..filled], || Place::File { path: shown.to_owned() });
            if filled < piece.len() || self.limit.is_reached() {
                return Ok(());
            }
            kept = LONGEST_BYTES.min(filled / 2);
            piece.copy_within(filled - kept..filled, 0);
        }
    }

    fn packaged_files(&self) -> HashSet<String> {
        let mut files = HashSet::new();
        let lists = self.ext4.read_dir(PACKAGE_LISTS).into_iter().flatten().flatten();
        for list in lists.filter(|entry| entry.file_name().as_ref().ends_with(b".list")) {
            let text = self.ext4.read(&list.path()).unwrap_or_default();
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
