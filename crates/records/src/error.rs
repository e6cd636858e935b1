//! What can go wrong with records, whoever keeps them.

use crate::LogQuota;

/// Result of reading or writing records.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why records could not be read or written. Nothing was changed, unless the variant says
/// otherwise.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is nearly full, and what is left is for records of what has happened.
    #[error("the disk has less than {minimum_mib} MiB left, which are kept for records")]
    NoRoom {
        /// What must be left, in MiB.
        minimum_mib: u64,
    },
    /// The account has as many log groups, or bytes in them, as it may have.
    #[error(transparent)]
    LogQuota(LogQuota),
    /// What keeps the records failed. A change may have been made all the same if it was
    /// interrupted by the end of the service.
    #[error("the records cannot be read or written")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}
