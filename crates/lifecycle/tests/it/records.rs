//! Records of a world, also such as nobody would have written.

use std::sync::Arc;

use hearth_api::{MicrovmId, MicrovmState};
use hearth_guest::UidPool;
use hearth_lifecycle::Registry;
use hearth_records::{Cause, MicrovmRecord, Microvms as _, NodeId, Origin, Phase, Written};
use hearth_testkit::waiting::eventually;
use hearth_vmm::fake::FakeVmm;
use hearth_vmm::snapshot::sparse_digest;

use crate::support::World;

impl World {
    /// A registry of another node on the same records and files, with VMs of its own.
    pub(crate) fn beside(&self, node: &str) -> (Arc<Registry>, Arc<FakeVmm>) {
        let vmm = Arc::new(FakeVmm::new());
        let mut config = self.config();
        config.node = NodeId::from_stored(node);
        config.guests.vmm = vmm.clone();
        config.guests.uids = UidPool::new(200_000);
        config.guests.run_root = config.guests.run_root.with_file_name(node);
        (Registry::new(config), vmm)
    }

    /// The data directory.
    pub(crate) fn root(&self) -> &std::path::Path {
        self.snapshots.root()
    }

    /// The microVM's disk and what its snapshot consists of, with their digests.
    pub(crate) fn files(&self, id: &MicrovmId) -> Vec<(String, String)> {
        let own = self.snapshots.microvm(id);
        let parts = own.snapshot().unwrap().map(|snapshot| snapshot.directory().to_owned());
        let parts = parts.iter().flat_map(|parts| std::fs::read_dir(parts).unwrap());
        let files = parts.map(|entry| entry.unwrap().path()).chain([own.disk()]);
        let mut files: Vec<_> =
            files.map(|path| (path.display().to_string(), sparse_digest(&path).unwrap())).collect();
        files.sort();
        files
    }

    /// Writes into a record what nobody would have written in a test.
    pub(crate) async fn rewrite(&self, id: &MicrovmId, change: impl FnOnce(&mut MicrovmRecord)) {
        let was = self.record(id).await;
        let mut to = was.clone();
        change(&mut to);
        to.generation += 1;
        let written = self.store.change_microvm(&was, &to, &Origin::of(Cause::Host)).await.unwrap();
        assert_eq!(written, Written::Yes);
    }

    /// Writes down where the service was with a microVM when it was killed.
    pub(crate) async fn enter(&self, id: &MicrovmId, phase: Phase) {
        self.rewrite(id, |record| *record = record.entering(phase)).await;
    }

    pub(crate) async fn record(&self, id: &MicrovmId) -> MicrovmRecord {
        self.store.microvm(id).await.unwrap().unwrap()
    }

    /// Waits until the row says so, and returns it.
    pub(crate) async fn wait_for(&self, id: &MicrovmId, state: MicrovmState) -> MicrovmRecord {
        let look = async || {
            let record = self.record(id).await;
            if record.state == state { Ok(record) } else { Err(record) }
        };
        eventually(&format!("it is {state:?}"), look).await
    }
}
