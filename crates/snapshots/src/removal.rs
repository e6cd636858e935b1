//! Listing and removing directories.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

/// Removes snapshots on a thread of its own: one may have gigabytes, and who releases it does not
/// wait for that.
#[derive(Debug)]
pub(crate) struct Remover {
    gone_tx: mpsc::Sender<PathBuf>,
    count: AtomicU64,
}

impl Remover {
    pub(crate) fn start() -> Self {
        let (gone_tx, gone_rx) = mpsc::channel::<PathBuf>();
        let work = move || gone_rx.into_iter().for_each(|gone| remove_all(&gone));
        if let Err(error) = std::thread::Builder::new().name("snapshot-removal".to_owned()).spawn(work) {
            tracing::error!(%error, "snapshots that nobody has any more stay until the next start");
        }
        Self { gone_tx, count: AtomicU64::new(0) }
    }

    /// Takes a directory away at once, into `gone`, and removes it there.
    pub(crate) fn remove(&self, directory: &Path, gone: &Path) {
        let to = gone.join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        match fs::rename(directory, &to) {
            // Nobody removes what is there when its thread could not be started.
            Ok(()) => drop(self.gone_tx.send(to)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::error!(path = %directory.display(), %error, "a snapshot could not be removed");
            }
        }
    }
}

/// Removes a directory or a file; that there is none is no error. Others are logged: what is left
/// goes with the next start.
pub(crate) fn remove_all(path: &Path) {
    let removed = loop {
        match fs::remove_dir_all(path) {
            // Something was just being made in it.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => break fs::remove_file(path),
            removed => break removed,
        }
    };
    if let Err(error) = removed
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(path = %path.display(), %error, "files could not be removed");
    }
}

/// What was done to a file, unless it is not there.
pub(crate) fn if_there<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        done => done.map(Some),
    }
}

/// What a directory holds; nothing if it is not there.
pub(crate) fn listed(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Vec::new())
        }
        Err(error) => Err(error),
    }
}

/// What a directory holds; nothing if it cannot be read.
pub(crate) fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}
