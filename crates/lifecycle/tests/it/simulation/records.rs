//! Records in memory, which refuse what must never be written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use hearth_api::{ImageArn, ImageVersion, MicrovmId, MicrovmState};
use hearth_lifecycle::records::Records;
use hearth_records::{ImageVersionRecord, MicrovmRecord};
use hearth_store::{Error, Result};

use super::faults::{Faults, Site};

/// The database of a simulation.
#[derive(Debug)]
pub(super) struct MemoryRecords {
    faults: Arc<Faults>,
    versions: Vec<ImageVersionRecord>,
    microvms: Mutex<BTreeMap<String, MicrovmRecord>>,
}

impl MemoryRecords {
    pub(super) fn new(faults: Arc<Faults>, versions: Vec<ImageVersionRecord>) -> Arc<Self> {
        Arc::new(Self { faults, versions, microvms: Mutex::default() })
    }

    pub(super) fn insert(&self, record: MicrovmRecord) {
        self.microvms.lock().unwrap().insert(record.id.to_string(), record);
    }

    pub(super) fn all(&self) -> Vec<MicrovmRecord> {
        self.microvms.lock().unwrap().values().cloned().collect()
    }

    pub(super) fn get(&self, id: &MicrovmId) -> MicrovmRecord {
        self.microvms.lock().unwrap()[id.as_str()].clone()
    }
}

#[async_trait]
impl Records for MemoryRecords {
    async fn update_microvm(&self, record: &MicrovmRecord) -> Result<()> {
        if self.faults.visit(Site::Record, None).await {
            return Err(Error::Temporary(std::io::ErrorKind::StorageFull.into()));
        }
        let mut microvms = self.microvms.lock().unwrap();
        let known = microvms.get_mut(record.id.as_str()).expect("it was inserted");
        assert!(known.state != MicrovmState::Terminated, "a second end: {known:?}, {record:?}");
        assert!(record.generation > known.generation, "two writers: {known:?}, {record:?}");
        *known = record.clone();
        Ok(())
    }

    async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>> {
        Ok(self.microvms.lock().unwrap().get(id.as_str()).cloned())
    }

    async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>> {
        let microvms = self.microvms.lock().unwrap();
        Ok(microvms.values().filter(|record| record.state != MicrovmState::Terminated).cloned().collect())
    }

    async fn image_version(
        &self,
        arn: &ImageArn,
        version: ImageVersion,
    ) -> Result<Option<ImageVersionRecord>> {
        Ok(self.versions.iter().find(|known| known.arn == *arn && known.version == version).cloned())
    }
}
