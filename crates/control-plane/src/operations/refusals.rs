//! What is refused, in the words that the caller gets.

use hearth_api::MicrovmId;
use hearth_node::Refusal;
use hearth_service::Error;

use crate::arns::microvm_not_found;

pub(crate) fn translate(refusal: Refusal, id: &MicrovmId) -> Error {
    match refusal {
        Refusal::NotFound => microvm_not_found(id),
        Refusal::Terminated => Error::validation(format!(
            "The MicroVM {id} has been terminated and its state cannot be changed."
        )),
        Refusal::Busy(state) => {
            Error::conflict(format!("The MicroVM {id} is in state {}; try again later.", state.as_str()))
        }
        // Lifecycle has logged it.
        Refusal::Internal => hearth_api::Error::internal().into(),
    }
}

/// Refuses a customer managed key: a server that took it and did not seal the snapshot with it
/// would break a promise.
pub(crate) fn customer_managed_key(key: Option<&String>) -> Result<(), Error> {
    match key {
        None => Ok(()),
        Some(_) => Err(Error::validation(
            "kmsKeyIdentifier is not supported: this server has no key service to seal snapshots with a customer \
             managed key. Leave it out; the data directory can be put on an encrypted file system.",
        )),
    }
}
