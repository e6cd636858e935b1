//! The payload of the run hook, from RunMicrovm's answer until the hook has been called.
//!
//! It must survive a crash in between, and be nowhere afterwards. So it is a file of its
//! own that nobody else can read, not a column: a database keeps what was deleted in its
//! pages and its journal.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};

use hearth_snapshots::MicrovmFiles;

/// Writes the payload so that it outlives a power cut, and with it the microVM's directory.
pub(crate) fn keep(files: &MicrovmFiles, payload: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(&files.directory)?;
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&files.run_hook_payload)?;
    file.write_all(payload.as_bytes())?;
    file.sync_all()?;
    File::open(&files.directory)?.sync_all()?;
    match files.directory.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// The payload; empty when there is none.
pub(crate) fn read(files: &MicrovmFiles) -> io::Result<String> {
    match fs::read_to_string(&files.run_hook_payload) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        read => read,
    }
}

/// Removes it, if it is there.
pub(crate) fn forget(files: &MicrovmFiles) -> io::Result<()> {
    match fs::remove_file(&files.run_hook_payload) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use hearth_api::MicrovmId;
    use hearth_snapshots::Files;

    use super::*;

    #[test]
    fn nobody_else_can_read_it_and_it_goes_without_a_trace() {
        let root = tempfile::tempdir().unwrap();
        let files = Files::new(root.path()).microvm(&MicrovmId::new());
        assert_eq!(read(&files).unwrap(), "");
        keep(&files, "secret").unwrap();
        assert_eq!(read(&files).unwrap(), "secret");
        let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&files.run_hook_payload), mode(&files.directory)), (0o600, 0o700));
        keep(&files, "another").unwrap_err();
        forget(&files).unwrap();
        assert_eq!(fs::read_dir(&files.directory).unwrap().count(), 0);
        forget(&files).unwrap();
    }
}
