//! MicroVMs that were read lately, kept in memory: clients poll, and a record changes a
//! few times in its life.
//!
//! A record is read through the cache and forgotten after every change of its row, on the writer's
//! thread: a change is noticed here even if its caller has gone away, and before its caller learns
//! of its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hearth_api::MicrovmId;
use hearth_records::MicrovmRecord;
use quick_cache::sync::Cache;

use crate::{Error, Result};

/// Records kept; each takes about a kilobyte.
const KEPT: usize = 16_384;

/// The cache; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct RecentMicrovms {
    records: Arc<Cache<MicrovmId, Arc<MicrovmRecord>>>,
    changes: Arc<AtomicU64>,
}

/// Why there is nothing to keep.
enum Miss {
    Absent,
    Failed(Error),
}

impl RecentMicrovms {
    pub(crate) fn new() -> Self {
        Self { records: Arc::new(Cache::new(KEPT)), changes: Arc::default() }
    }

    /// The record, from memory or by `read`. What was changed while it was being read is not kept.
    pub(crate) fn get(
        &self,
        id: &MicrovmId,
        read: impl FnOnce() -> Result<Option<MicrovmRecord>>,
    ) -> Result<Option<Arc<MicrovmRecord>>> {
        let read = || match read() {
            Ok(Some(record)) => Ok(Arc::new(record)),
            Ok(None) => Err(Miss::Absent),
            Err(error) => Err(Miss::Failed(error)),
        };
        match self.records.get_or_insert_with(id, read) {
            Ok(record) => Ok(Some(record)),
            Err(Miss::Absent) => Ok(None),
            Err(Miss::Failed(error)) => Err(error),
        }
    }

    /// Goes up with every change of any microVM, before whoever made it learns of its success. What
    /// was read after a number was taken is good for as long as the number is the same.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// Forgets a record; after every change of its row.
    pub(crate) fn changed(&self, id: &MicrovmId) {
        self.records.remove(id);
        self.changes.fetch_add(1, Ordering::Release);
    }

    /// Forgets everything; after many rows have changed at once.
    pub(crate) fn clear(&self) {
        self.records.clear();
        self.changes.fetch_add(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use hearth_api::{AccountId, ImageArn, ImageVersion, MicrovmState};

    use hearth_records::testing::settings;

    use super::*;
    use crate::Store;
    use crate::writer::Durability;
    use rusqlite::Transaction;

    fn record(state: MicrovmState) -> MicrovmRecord {
        let image = ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:app").unwrap();
        let account = AccountId::from_stored("000000000000");
        let pending = MicrovmRecord::pending(
            account,
            image,
            ImageVersion::FIRST,
            settings(),
            hearth_records::NodeId::nobody(),
        );
        MicrovmRecord { state, ..pending }
    }

    #[test]
    fn what_changes_while_it_is_read_is_read_again() {
        let recent = RecentMicrovms::new();
        let (old, new) = (record(MicrovmState::Pending), record(MicrovmState::Running));
        let (id, before) = (old.id.clone(), recent.changes());
        let state = |record: Option<Arc<MicrovmRecord>>| record.map(|record| record.state);

        let outdated = recent.get(&id, || {
            recent.changed(&id);
            Ok(Some(old.clone()))
        });
        assert_eq!(state(outdated.unwrap()), Some(MicrovmState::Pending));
        assert!(recent.changes() > before);
        assert_eq!(state(recent.get(&id, || Ok(Some(new.clone()))).unwrap()), Some(MicrovmState::Running));
        let kept = recent.get(&id, || unreachable!("it is in memory")).unwrap();
        assert_eq!(state(kept), Some(MicrovmState::Running));

        recent.clear();
        assert!(recent.get(&id, || Ok(None)).unwrap().is_none());
        assert!(recent.get(&id, || Ok(Some(old))).unwrap().is_some(), "that it was absent is not kept");
    }

    #[tokio::test]
    async fn a_change_is_noticed_when_nobody_waits_for_it() {
        let store = Store::temporary().await.unwrap();
        let (recent, found) = (&store.recent, record(MicrovmState::Running));
        let id = found.id.clone();
        recent.get(&id, || Ok(Some(found))).unwrap();
        let (proceed_tx, proceed_rx) = std::sync::mpsc::channel::<()>();
        let change = move |_: &Transaction<'_>| Ok(proceed_rx.recv().is_ok());
        let change = store.write_microvm(id.clone(), Durability::Disk, change);
        assert!(futures::FutureExt::now_or_never(change).is_none());
        let before = recent.changes();
        proceed_tx.send(()).unwrap();
        while recent.changes() == before {
            tokio::task::yield_now().await;
        }
        assert!(recent.get(&id, || Ok(None)).unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_read_after_a_change_is_what_it_wrote() {
        let store = Store::temporary().await.unwrap();
        let found = record(MicrovmState::Running);
        let before = store.recent.changes();
        store.recent.get(&found.id, || Ok(Some(found.clone()))).unwrap();
        let failed = store.write_microvm(found.id.clone(), Durability::Disk, |_| Err::<(), _>(Error::NoRoom));
        failed.await.unwrap_err();
        assert!(store.recent.changes() > before, "a change may be made although it is said to have failed");
        assert!(store.recent.get(&found.id, || Ok(None)).unwrap().is_none());
    }
}
