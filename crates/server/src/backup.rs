//! `hearth backup`: a data directory as one file. Its disks and memory files are mostly holes; an
//! archive that writes them out is fifty times as large as what is there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use crate::data_dir;

/// What only means something to running processes.
const LEFT_OUT: [&str; 2] = ["lock", "run"];

/// Arguments of `hearth backup`.
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Data directory; no server and no microVM may be running on it
    #[arg(long)]
    data_dir: PathBuf,
    /// File to write, or `-` for standard output
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Writes the archive: a tar of GNU's form, with sparse files as such. It holds the keys of all
/// users, so only its owner may read it.
pub(crate) fn run(args: &BackupArgs) -> anyhow::Result<()> {
    let directory = &args.data_dir;
    if !directory.join("hearth.db").exists() {
        bail!("{} is no data directory of a hearth server: there is no hearth.db in it", directory.display());
    }
    if is_inside(&args.file, directory)? {
        bail!(
            "{} is inside of the data directory, and would have to hold itself: choose a place outside of {}",
            args.file.display(),
            directory.display()
        );
    }
    let _lock = data_dir::lock(directory)?;
    if let Some(name) = running(directory)? {
        bail!(
            "{name} is still running, and a copy of its disk would not fit its memory: suspend or terminate it, or stop the \
             server with `--on-stop suspend`. If the host was restarted since, start and stop the server first, which finds \
             out what has become of it"
        );
    }
    if args.file == Path::new("-") {
        return write(directory, io::stdout().lock()).context("cannot write the archive");
    }
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file);
    let file = file.with_context(|| format!("cannot make {}", args.file.display()))?;
    let written = write(directory, &file).and_then(|()| file.sync_all());
    if written.is_err() {
        // What is incomplete is no backup. That it could not be written is said below.
        let _ = std::fs::remove_file(&args.file);
    }
    written.with_context(|| format!("cannot write {}", args.file.display()))
}

/// Whether a file that is to be made would be in this directory.
fn is_inside(file: &Path, directory: &Path) -> anyhow::Result<bool> {
    let Some(parent) = file.parent() else { return Ok(false) };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let real =
        |path: &Path| path.canonicalize().with_context(|| format!("cannot look at {}", path.display()));
    Ok(real(parent)?.starts_with(real(directory)?))
}

/// A microVM or build that an earlier server left running, or did not clean up after.
fn running(directory: &Path) -> anyhow::Result<Option<String>> {
    match std::fs::read_dir(directory.join("run")) {
        Ok(mut entries) => {
            let first =
                entries.next().transpose().context("cannot read the directory of running microVMs")?;
            Ok(first.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context("cannot read the directory of running microVMs"),
    }
}

fn write(directory: &Path, output: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(BufWriter::with_capacity(1 << 20, output));
    builder.follow_symlinks(false);
    builder.sparse(true);
    let mut archive = Archive { builder, directory, seen: HashMap::new() };
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        if !LEFT_OUT.iter().any(|left_out| name == *left_out) {
            archive.append(Path::new(&name))?;
        }
    }
    archive.builder.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.flush()
}

/// An archive that is being written.
struct Archive<'a, W: Write> {
    builder: tar::Builder<W>,
    directory: &'a Path,
    /// Device and inode of what has several names, and the name that it was stored under. Snapshots
    /// are shared so.
    seen: HashMap<(u64, u64), PathBuf>,
}

impl<W: Write> Archive<'_, W> {
    /// Appends a file, or a directory with all that is in it.
    fn append(&mut self, name: &Path) -> io::Result<()> {
        let path = self.directory.join(name);
        let metadata = std::fs::symlink_metadata(&path)?;
        if metadata.is_dir() {
            self.builder.append_dir(name, &path)?;
            for entry in std::fs::read_dir(&path)? {
                self.append(&name.join(entry?.file_name()))?;
            }
            return Ok(());
        }
        if metadata.nlink() > 1 {
            match self.seen.entry((metadata.dev(), metadata.ino())) {
                Entry::Occupied(first) => {
                    let mut header = tar::Header::new_gnu();
                    header.set_metadata(&metadata);
                    header.set_entry_type(tar::EntryType::Link);
                    header.set_size(0);
                    return self.builder.append_link(&mut header, name, first.get());
                }
                Entry::Vacant(entry) => drop(entry.insert(name.to_owned())),
            }
        }
        self.builder.append_path_with_name(&path, name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    use super::*;

    #[test]
    fn holes_stay_holes_and_secrets_stay_private() {
        let temporary = tempfile::tempdir().unwrap();
        let (data, backup) = (temporary.path().join("data"), temporary.path().join("backup.tar"));
        std::fs::create_dir_all(data.join("images/1/app")).unwrap();
        std::fs::write(data.join("hearth.db"), "rows").unwrap();
        let disk = File::create(data.join("images/1/app/disk.raw")).unwrap();
        disk.set_len(8 << 30).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&disk, b"in the middle", 5 << 30).unwrap();
        std::fs::hard_link(data.join("images/1/app/disk.raw"), data.join("images/again")).unwrap();
        run(&BackupArgs { data_dir: data.clone(), file: backup.clone() }).unwrap();
        let archive = backup.metadata().unwrap();
        assert!(archive.len() < 1 << 20, "{} bytes", archive.len());
        assert_eq!(archive.mode() & 0o777, 0o600);

        let restored = temporary.path().join("restored");
        std::fs::create_dir(&restored).unwrap();
        let tar = Command::new("tar").arg("-xf").arg(&backup).arg("-C").arg(&restored).status().unwrap();
        assert!(tar.success());
        let disk = File::open(restored.join("images/1/app/disk.raw")).unwrap();
        let metadata = disk.metadata().unwrap();
        assert_eq!(metadata.len(), 8 << 30);
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
        let mut text = [0; 13];
        std::os::unix::fs::FileExt::read_exact_at(&disk, &mut text, 5 << 30).unwrap();
        assert_eq!(&text, b"in the middle");
        assert!(!restored.join("lock").exists());
        let again = restored.join("images/again").metadata().unwrap();
        assert_eq!((again.ino(), again.nlink()), (metadata.ino(), 2), "one file under two names");
    }

    #[test]
    fn what_runs_or_is_no_data_directory_is_refused_with_a_sentence() {
        let (temporary, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = elsewhere.path().join("b.tar");
        let args = BackupArgs { data_dir: temporary.path().to_owned(), file };
        assert!(run(&args).unwrap_err().to_string().contains("no hearth.db"));
        std::fs::write(temporary.path().join("hearth.db"), "").unwrap();
        std::os::unix::fs::symlink(temporary.path(), elsewhere.path().join("link")).unwrap();
        for inside in [temporary.path().join("b.tar"), elsewhere.path().join("link/b.tar")] {
            let args = BackupArgs { data_dir: temporary.path().to_owned(), file: inside };
            assert!(run(&args).unwrap_err().to_string().contains("is inside of the data directory"));
        }
        std::fs::create_dir_all(temporary.path().join("run/microvm-1")).unwrap();
        assert!(run(&args).unwrap_err().to_string().starts_with("microvm-1 is still running"));
        std::fs::remove_dir_all(temporary.path().join("run")).unwrap();
        let _server = data_dir::lock(temporary.path()).unwrap();
        assert!(run(&args).unwrap_err().to_string().contains("in use by another hearth server"));
        assert!(!args.file.exists());
    }
}
