//! Where the records are of which this crate has need, and how those of microVMs are changed.
//! A simulation keeps some of them in memory.

use std::sync::Arc;

use hearth_records::{ImageVersions, Logs, MicrovmRecord, Microvms, Origin, Written};

/// Where each kind of record is.
#[derive(Debug, Clone)]
pub struct Records {
    /// MicroVMs.
    pub microvms: Arc<dyn Microvms>,
    /// Versions of images.
    pub images: Arc<dyn ImageVersions>,
    /// The apps' output.
    pub logs: Arc<dyn Logs>,
}

/// Why a change of a microVM was not written. The log has more.
#[derive(Debug)]
pub(crate) enum Unwritten {
    /// The records could not be written now.
    Failed,
    /// The record has another owner, which is said where there still is a record.
    Stale(Option<Box<MicrovmRecord>>),
}

impl Records {
    /// All of them are in the same place.
    pub fn all_in(records: Arc<dyn hearth_records::Records>) -> Self {
        Self { microvms: records.clone(), images: records.clone(), logs: records }
    }

    /// Changes a microVM, if its record still is what it `was`.
    pub(crate) async fn change(
        &self,
        was: &MicrovmRecord,
        to: &MicrovmRecord,
        origin: &Origin,
    ) -> Result<(), Unwritten> {
        match self.microvms.change_microvm(was, to, origin).await {
            Ok(Written::Yes) => Ok(()),
            Ok(Written::Stale(now)) => {
                tracing::warn!(microvm = %was.id, ?now, "a microVM has another owner, and is let go of here");
                Err(Unwritten::Stale(now))
            }
            Err(error) => {
                tracing::error!(microvm = %was.id, error = &error as &dyn std::error::Error, "the record could not be written");
                Err(Unwritten::Failed)
            }
        }
    }
}
