//! What a refusal of the registry is to the caller.

use hearth_api::{Error, MicrovmId};
use hearth_lifecycle::Refusal;

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
        Refusal::Internal => Error::internal(),
    }
}
