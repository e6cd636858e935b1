//! Transactions of the thread that writes: of one change, or of several that wait for the disk
//! together.

use std::sync::Arc;

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{Durability, Syncing};
use crate::{Error, Result};

/// After a transaction that could not be committed.
const ALONE_AFTER_A_FAILURE: usize = 64;

/// The connection, as its thread has it.
pub(super) struct Database {
    connection: Connection,
    syncing: Syncing,
    /// What `PRAGMA synchronous` was last set to.
    set: Option<&'static str>,
    /// How many transactions from now on are of one change each.
    alone: usize,
}

impl Database {
    pub(super) fn new(connection: Connection, syncing: Syncing) -> Self {
        Self { connection, syncing, set: None, alone: 0 }
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Makes changes of the same durability: together, so that they wait for the disk together,
    /// unless that has just failed. On a full disk a large one would take small ones with it.
    pub(super) fn make(&mut self, jobs: Vec<Job>) {
        if self.alone == 0 {
            return self.make_together(jobs);
        }
        self.alone -= 1;
        for job in jobs {
            self.make_together(vec![job]);
        }
    }

    fn make_together(&mut self, jobs: Vec<Job>) {
        let mut made = Vec::new();
        let mut waiting = jobs.into_iter();
        let committed = self.transact(&mut waiting, &mut made);
        if committed.is_err() {
            self.alone = ALONE_AFTER_A_FAILURE;
        }
        let committed = committed.map_err(Arc::new);
        for Made { tell, .. } in made {
            tell(committed.clone().map_err(Error::Together));
        }
        if let Err(error) = committed {
            // It did not come to these.
            for job in waiting {
                let Made { tell, .. } = (job.run)(Err(Error::Together(error.clone())));
                tell(Ok(()));
            }
        }
    }

    fn transact(&mut self, jobs: &mut std::vec::IntoIter<Job>, made: &mut Vec<Made>) -> rusqlite::Result<()> {
        let [first, others @ ..] = jobs.as_slice() else { return Ok(()) };
        let (wanted, alone) = (self.syncing.pragma(first.durability), others.is_empty());
        if self.set != Some(wanted) {
            self.connection.pragma_update(None, "synchronous", wanted)?;
            self.set = Some(wanted);
        }
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for job in jobs {
            if !alone {
                transaction.execute_batch("SAVEPOINT change")?;
            }
            let done = (job.run)(Ok(&transaction));
            let kept = done.kept;
            made.push(done);
            match (kept, alone) {
                (true, true) => {}
                (true, false) => transaction.execute_batch("RELEASE change")?,
                (false, true) => return transaction.rollback(),
                // Fails where SQLite has rolled everything back by itself.
                (false, false) => transaction.execute_batch("ROLLBACK TO change; RELEASE change")?,
            }
        }
        transaction.commit()
    }
}

type Change = dyn FnOnce(Result<&Transaction<'_>>) -> Made + Send;
type Tell = dyn FnOnce(Result<()>) + Send;

/// A change that waits for its turn.
pub(super) struct Job {
    pub(super) durability: Durability,
    pub(super) run: Box<Change>,
}

/// A change that was made, or was not.
pub(super) struct Made {
    /// What it has done so far stays, if the transaction is committed.
    pub(super) kept: bool,
    /// Tells the caller how the transaction ended.
    pub(super) tell: Box<Tell>,
}
