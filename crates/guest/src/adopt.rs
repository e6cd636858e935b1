//! Taking over a guest that an earlier server has left: what its run directory tells, and the way
//! back to a [`Guest`].

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use hearth_vmm::{Adopted, Adoption, GuestChannel, GuestStream};
use serde::{Deserialize, Serialize};

use crate::guest::{Error, Guest, GuestFactory};

/// What the guest holds beside its VM, in the run directory.
const RECORD_FILE: &str = "guest.json";
/// Version that is written, and the only one that is taken over.
const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    version: u32,
    uid: u32,
    uplink: Option<String>,
}

#[derive(Deserialize)]
struct AnyVersion {
    version: u32,
}

/// A guest that was taken over.
#[derive(Debug)]
pub struct AdoptedGuest {
    /// The guest.
    pub guest: Guest,
    /// Whether its vCPUs run; otherwise it is paused.
    pub running: bool,
}

/// The way to the agent, which is known only after the VM: its process leads to its network.
#[derive(Debug, Default)]
struct LateChannel(OnceLock<Arc<dyn GuestChannel>>);

#[async_trait]
impl GuestChannel for LateChannel {
    async fn connect(&self) -> io::Result<Box<dyn GuestStream>> {
        self.0.get().ok_or(io::ErrorKind::NotConnected)?.connect().await
    }

    async fn connect_app(&self, port: u16, limit: Duration) -> io::Result<Box<dyn GuestStream>> {
        self.0.get().ok_or(io::ErrorKind::NotConnected)?.connect_app(port, limit).await
    }
}

/// Writes down what a guest that is about to be started holds.
pub(crate) fn record(run_dir: &Path, uid: u32, uplink: Option<String>) -> io::Result<()> {
    let record = Record { version: VERSION, uid, uplink };
    let mut options = File::options();
    let mut file =
        options.write(true).create(true).truncate(true).mode(0o600).open(run_dir.join(RECORD_FILE))?;
    file.write_all(&serde_json::to_vec(&record)?)
}

/// The user id of a guest, whatever else its record says.
pub(crate) fn recorded_uid(name: &str, run_dir: &Path) -> Option<u32> {
    read(name, run_dir).ok().flatten().map(|record| record.uid)
}

fn read(name: &str, run_dir: &Path) -> Result<Option<Record>, Error> {
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

impl GuestFactory {
    /// Takes over the guest of this name, if it still runs. On failure it stays as it is; whoever
    /// does not want it removes it with [`hearth_vmm::leftovers`].
    pub async fn adopt(&self, name: &str) -> Result<Option<AdoptedGuest>, Error> {
        let run_dir = self.run_root.join(name);
        let Some(record) = read(name, &run_dir)? else { return Ok(None) };
        let channel = Arc::new(LateChannel::default());
        let adoption = Adoption { name: name.to_owned(), run_dir, guest_channel: channel.clone() };
        let Some(Adopted { vm, running }) = self.vmm.adopt(adoption).await? else { return Ok(None) };
        let uid = self.uids.claim(record.uid).ok_or_else(|| Error::NotAdoptable {
            name: name.to_owned(),
            detail: format!("its user id {} is in use", record.uid),
        })?;
        let network = self.networks.adopt(vm.pid(), record.uplink.as_deref()).await;
        let network = network.map_err(|source| Error::Network { name: name.to_owned(), source })?;
        // It was empty until here.
        let _ = channel.0.set(network.channel());
        let guest = Guest::new(vm, self.holdings(name, Some(network), Some(uid)));
        Ok(Some(AdoptedGuest { guest, running }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_another_version_is_refused() {
        let run_dir = tempfile::tempdir().unwrap();
        assert!(read("one", run_dir.path()).unwrap().is_none());
        record(run_dir.path(), 7, Some("hv1".into())).unwrap();
        let found = read("one", run_dir.path()).unwrap().unwrap();
        assert_eq!((found.uid, found.uplink.as_deref()), (7, Some("hv1")));
        for (text, expected) in [(r#"{"version":2}"#, "has version 2"), (r#"{"ver"#, "cannot be read")] {
            std::fs::write(run_dir.path().join(RECORD_FILE), text).unwrap();
            let error = read("one", run_dir.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
