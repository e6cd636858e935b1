//! The data directory: one server at a time, and nobody else who looks inside.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::Path;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};

/// What others than the owner may do, in a mode.
const OTHERS: u32 = 0o077;
/// File whose room a start may use.
const RESERVE: &str = "reserve";
/// Its bytes: for the index of SQLite's log (32 KiB) and the small files here, several times over.
const RESERVE_BYTES: u64 = 512 << 10;

/// Held while the server uses the directory; the lock goes with the process.
#[derive(Debug)]
pub(crate) struct DataDirLock(#[expect(dead_code, reason = "held for its lock")] File);

/// Lets nobody but this process's user read or write the files that it makes from now on, unless
/// a file's mode is set.
pub(crate) fn make_files_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(OTHERS));
}

/// Makes the directory (mode 0700) and locks it. One that is there already is closed to others:
/// there are secret keys in it and the memory of microVMs.
pub(crate) fn lock(directory: &Path) -> anyhow::Result<DataDirLock> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make the data directory {}", directory.display()))?;
    keep_private(directory)?;
    let path = directory.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut pid = String::new();
        file.read_to_string(&mut pid).with_context(|| format!("cannot read {}", path.display()))?;
        bail!(
            "the data directory {} is in use by another hearth server (process {}); stop it or choose another directory",
            directory.display(),
            pid.trim()
        );
    }
    // Cut to its length afterwards: a file that was empty for a moment may find no room any more.
    let pid = format!("{}\n", std::process::id());
    file.write_all_at(pid.as_bytes(), 0)
        .and_then(|()| file.set_len(pid.len() as u64))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(DataDirLock(file))
}

/// Refuses a directory that has lost its database: a new one would know nothing of what is here,
/// and the start would remove it.
pub(crate) fn check_whole(directory: &Path) -> anyhow::Result<()> {
    let has = |name| directory.join(name).read_dir().is_ok_and(|mut entries| entries.next().is_some());
    if directory.join("hearth.db").exists() || !(has("microvms") || has("images")) {
        return Ok(());
    }
    bail!(
        "{0} has images or microVMs, but no hearth.db that knows them: put the database back, or remove {0}/images and \
         {0}/microvms if they are to be given up",
        directory.display()
    )
}

/// Room for the next start, whose want a full disk would else be. It is kept when this is dropped
/// at the latest: also by a server that could not start.
#[derive(Debug)]
pub(crate) struct Reserve<'a>(&'a Path);

impl<'a> Reserve<'a> {
    /// Gives it up for what a start has to write, so that a server starts on a full disk.
    pub(crate) fn spend(directory: &'a Path) -> Self {
        // Whether it was there or not, nothing else can be done.
        let _ = std::fs::remove_file(directory.join(RESERVE));
        Self(directory)
    }

    /// Takes it again, if it is not there.
    pub(crate) fn keep(&self) {
        let path = self.0.join(RESERVE);
        let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        if let Err(error) = made.and_then(|file| fill(&file)) {
            let _ = std::fs::remove_file(path);
            tracing::warn!(%error, "no room could be kept for the next start of the server");
        }
    }
}

impl Drop for Reserve<'_> {
    fn drop(&mut self) {
        self.keep();
    }
}

fn fill(file: &File) -> std::io::Result<()> {
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES) {
        // A file system without fallocate(2), like NFS before 4.2.
        Err(rustix::io::Errno::OPNOTSUPP) => file.write_all_at(&vec![0; RESERVE_BYTES as usize], 0)?,
        allocated => allocated?,
    }
    file.sync_all()
}

/// Takes all rights on the directory, and on what is right inside, from other users; what belongs
/// to another user is refused.
fn keep_private(directory: &Path) -> anyhow::Result<()> {
    let looked = |path: &Path| format!("cannot look at {}", path.display());
    let metadata = directory.metadata().with_context(|| looked(directory))?;
    if !metadata.is_dir() {
        bail!("the data directory {} is no directory", directory.display());
    }
    close(directory, &metadata)?;
    for entry in directory.read_dir().with_context(|| looked(directory))? {
        let path = entry.with_context(|| looked(directory))?.path();
        let metadata = path.symlink_metadata().with_context(|| looked(&path))?;
        // The modes of links say nothing, and what is behind one is where the operator wanted it.
        if metadata.is_dir() || metadata.is_file() {
            close(&path, &metadata)?;
        }
    }
    Ok(())
}

fn close(path: &Path, metadata: &Metadata) -> anyhow::Result<()> {
    let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
    if owner != own {
        bail!(
            "{} belongs to the user {owner}, who could read and change it; what is in the data directory has to belong to the \
             user {own} that hearth serve runs as: give it to that user (chown {own} {}) or choose another directory",
            path.display(),
            path.display()
        );
    }
    let mode = metadata.mode() & 0o7777;
    if mode & OTHERS != 0 {
        let closed = mode & !OTHERS;
        std::fs::set_permissions(path, Permissions::from_mode(closed))
            .with_context(|| format!("cannot take the rights on {} from other users", path.display()))?;
        tracing::warn!(
            path = %path.display(),
            before = format!("{mode:04o}"),
            now = format!("{closed:04o}"),
            "other users had rights on what is in the data directory; they have none any more"
        );
    }
    Ok(())
}

/// Reads a small JSON file, if it is there.
pub(crate) fn read<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(
            serde_json::from_slice(&text).with_context(|| format!("{} is not readable", path.display()))?,
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a small file (mode 0600) whose readers never see half of it; it survives a power
/// failure once this returns.
pub(crate) fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    let aside = path.with_extension("new");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&aside, path))
        .and_then(|()| path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_server_is_told_who_has_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let held = lock(directory.path()).unwrap();
        let error = lock(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(held);
        lock(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_without_its_database_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        check_whole(directory.path()).unwrap();
        for name in ["images/1/app", "microvms/1"] {
            let path = directory.path().join(name);
            std::fs::create_dir_all(&path).unwrap();
            let error = check_whole(directory.path()).unwrap_err().to_string();
            assert!(error.contains("but no hearth.db that knows them"), "{error}");
            std::fs::write(directory.path().join("hearth.db"), "").unwrap();
            check_whole(directory.path()).unwrap();
            std::fs::remove_file(directory.path().join("hearth.db")).unwrap();
            std::fs::remove_dir_all(path).unwrap();
        }
    }

    #[test]
    fn the_reserve_takes_room_until_it_is_spent() {
        let directory = tempfile::tempdir().unwrap();
        let blocks = || directory.path().join(RESERVE).metadata().unwrap().blocks();
        let reserve = Reserve::spend(directory.path());
        for _ in 0..2 {
            reserve.keep();
            assert!(blocks() * 512 >= RESERVE_BYTES, "{} blocks", blocks());
        }
        let spent = Reserve::spend(directory.path());
        assert!(!directory.path().join(RESERVE).exists());
        drop(spent);
        assert!(blocks() * 512 >= RESERVE_BYTES, "a start that failed has kept it");
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().mode() & 0o7777
    }

    #[test]
    fn a_directory_that_others_can_read_is_closed_to_them_with_what_is_in_it() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("data");
        std::fs::create_dir(&directory).unwrap();
        std::fs::set_permissions(&directory, Permissions::from_mode(0o755)).unwrap();
        for (name, mode) in [("hearth.db", 0o644), ("hearth.db-wal", 0o666), ("credentials.json", 0o604)] {
            std::fs::write(directory.join(name), "secret").unwrap();
            std::fs::set_permissions(directory.join(name), Permissions::from_mode(mode)).unwrap();
        }
        std::fs::create_dir(directory.join("ca")).unwrap();
        std::fs::set_permissions(directory.join("ca"), Permissions::from_mode(0o751)).unwrap();
        std::os::unix::fs::symlink("/nowhere", directory.join("s3")).unwrap();
        drop(lock(&directory).unwrap());
        for (name, expected) in [
            ("", 0o700),
            ("hearth.db", 0o600),
            ("hearth.db-wal", 0o600),
            ("credentials.json", 0o600),
            ("ca", 0o700),
        ] {
            assert_eq!(mode(&directory.join(name)), expected, "{name:?}");
        }
    }

    #[test]
    fn what_belongs_to_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            // Nobody else can give a file away.
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let foreign = directory.path().join("hearth.db");
        std::fs::write(&foreign, "").unwrap();
        std::os::unix::fs::chown(&foreign, Some(1000), None).unwrap();
        let error = lock(directory.path()).unwrap_err().to_string();
        assert!(error.contains("hearth.db belongs to the user 1000"), "{error}");
    }
}
