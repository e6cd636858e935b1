//! What a step says while it is under way: from which snapshot its guest goes on with no way back.

use std::sync::atomic::{AtomicU32, Ordering};

use hearth_records::MicrovmRecord;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// For whom a step is performed, and what cuts it short.
#[derive(Debug)]
pub(crate) struct Work<'a> {
    /// As it was when the step began.
    pub(crate) record: &'a MicrovmRecord,
    pub(crate) cut: &'a CancellationToken,
    /// Number of the microVM's own snapshot when the step began; 0 without one.
    pub(crate) snapshot: u32,
    spending_tx: mpsc::Sender<Spending>,
    spent: AtomicU32,
}

/// A snapshot is to be recorded as spent.
#[derive(Debug)]
pub(crate) struct Spending {
    /// Its number.
    pub(crate) snapshot: u32,
    /// Told once that is on the disk, or cannot be written.
    pub(crate) done_tx: oneshot::Sender<Result<(), NotSpent>>,
}

/// It could not be recorded.
#[derive(Debug)]
pub(crate) struct NotSpent;

impl<'a> Work<'a> {
    /// What is spent goes through `spending_tx` to the half of the supervisor that writes the
    /// record.
    pub(crate) fn new(
        record: &'a MicrovmRecord,
        cut: &'a CancellationToken,
        snapshot: u32,
        spending_tx: mpsc::Sender<Spending>,
    ) -> Self {
        Self { record, cut, snapshot, spending_tx, spent: record.spent.into() }
    }

    /// The newest snapshot that is spent.
    pub(crate) fn spent(&self) -> u32 {
        self.spent.load(Ordering::Relaxed)
    }

    /// Records on the disk that the guest goes on from this snapshot and that there is no way back,
    /// if the record does not say so already.
    pub(crate) async fn spend(&self, snapshot: u32) -> Result<(), NotSpent> {
        if snapshot <= self.spent() {
            return Ok(());
        }
        let (done_tx, done_rx) = oneshot::channel();
        let spending = Spending { snapshot, done_tx };
        self.spending_tx.send(spending).await.map_err(|_| NotSpent)?;
        done_rx.await.unwrap_or(Err(NotSpent))?;
        self.spent.store(snapshot, Ordering::Relaxed);
        Ok(())
    }
}
