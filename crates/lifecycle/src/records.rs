//! Where the records are of which this crate has need. A simulation keeps some of them in memory.

use std::sync::Arc;

use hearth_records::{ImageVersions, Logs, Microvms};

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

impl Records {
    /// All of them are in the same place.
    pub fn all_in(records: Arc<dyn hearth_records::Records>) -> Self {
        Self { microvms: records.clone(), images: records.clone(), logs: records }
    }
}
