//! Records in memory, which refuse what must never be written.

use std::sync::Arc;

use hearth_api::{ImageVersion, MicrovmState};
use hearth_records::testing::{
    BeforeWrite, Guarded, MemoryRecords, Subject, image_arn, what_is_shared_conforms,
};
use hearth_records::{Error, Microvms as _};

use super::faults::{Faults, Site};
use super::world::version;

/// What a service sees of `memory`, with faults.
pub(super) fn faulty(memory: &Arc<MemoryRecords>, faults: &Arc<Faults>) -> Arc<Guarded> {
    let (known, faults) = (memory.clone(), faults.clone());
    let before_write: BeforeWrite = Box::new(move |record| {
        let (known, faults, record) = (known.clone(), faults.clone(), record.clone());
        Box::pin(async move {
            if faults.visit(Site::Record, None).await {
                return Err(Error::NoRoom { minimum_mib: 64 });
            }
            let known = known.microvm(&record.id).await?.expect("it was inserted");
            assert!(known.state != MicrovmState::Terminated, "a second end: {known:?}, {record:?}");
            assert!(record.generation > known.generation, "two writers: {known:?}, {record:?}");
            Ok(())
        })
    });
    Guarded::new(memory.clone(), before_write)
}

#[tokio::test]
async fn records_in_memory_conform() {
    let arn = image_arn("000000000000", "app");
    let memory = Arc::new(MemoryRecords::new(vec![version(&arn)]));
    what_is_shared_conforms(&*memory).await;
    Subject { microvms: memory.clone(), shared: memory, version: (arn, ImageVersion::FIRST) }
        .conforms()
        .await;
}
