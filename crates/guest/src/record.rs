//! What is written down of a guest, for a later server that takes it over.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// File in the run directory.
const RECORD_FILE: &str = "guest.json";
/// Version that is written, and the only one that is taken over.
const VERSION: u32 = 1;

/// What a guest holds beside its VM.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    /// User id of its VMM.
    pub(crate) uid: u32,
    /// Name of its network's link to the host.
    pub(crate) uplink: Option<String>,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

impl Record {
    /// Writes down what a guest that is about to be started holds.
    pub(crate) fn write(run_dir: &Path, uid: u32, uplink: Option<String>) -> io::Result<()> {
        let record = Self { version: VERSION, uid, uplink };
        let mut options = File::options();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o600).open(run_dir.join(RECORD_FILE))?;
        file.write_all(&serde_json::to_vec(&record)?)
    }

    /// The user id of a guest, whatever else its record says.
    pub(crate) fn uid(name: &str, run_dir: &Path) -> Option<u32> {
        Self::read(name, run_dir).ok().flatten().map(|record| record.uid)
    }

    /// The record of a guest; `None` if there is none.
    pub(crate) fn read(name: &str, run_dir: &Path) -> Result<Option<Self>, Error> {
        let text = match std::fs::read(run_dir.join(RECORD_FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| Error::Directory { path: run_dir.to_owned(), source })?,
        };
        let wrong = |detail| Error::NotAdoptable { name: name.to_owned(), detail };
        let unreadable = |error: serde_json::Error| wrong(format!("its record cannot be read: {error}"));
        let AnyVersion { version } = serde_json::from_slice(&text).map_err(unreadable)?;
        if version != VERSION {
            return Err(wrong(format!(
                "its record has version {version}, and this server knows version {VERSION}"
            )));
        }
        serde_json::from_slice(&text).map(Some).map_err(unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_refused() {
        let run_dir = tempfile::tempdir().unwrap();
        assert!(Record::read("one", run_dir.path()).unwrap().is_none());
        Record::write(run_dir.path(), 7, Some("hv1".into())).unwrap();
        let found = Record::read("one", run_dir.path()).unwrap().unwrap();
        assert_eq!((found.uid, found.uplink.as_deref()), (7, Some("hv1")));
        for (text, expected) in [(r#"{"version":2}"#, "has version 2"), (r#"{"ver"#, "cannot be read")] {
            std::fs::write(run_dir.path().join(RECORD_FILE), text).unwrap();
            let error = Record::read("one", run_dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
