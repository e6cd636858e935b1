//! Records in memory, which refuse what must never be written.

use std::sync::Arc;

use hearth_api::MicrovmState;
use hearth_records::testing::{BeforeWrite, Guarded, MemoryRecords};
use hearth_records::{Error, Microvms as _};

use super::faults::{Faults, Site};

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
