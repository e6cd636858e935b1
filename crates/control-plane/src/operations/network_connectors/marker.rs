//! Pages of lists: `MaxItems` and `Marker` in, `NextMarker` out; and the `State` filter, which counts before them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hearth_api::{Error, NetworkConnectorState};

use super::invalid;
use crate::call::Call;
use crate::page::PageRequest;
use crate::validate::violation;

/// Greatest `MaxItems` (model).
const MAXIMUM_ITEMS: u32 = 100;
/// Items of a page when nothing is asked for, and the most that ListNetworkConnectors gives (model).
pub(super) const DEFAULT_ITEMS: u32 = 50;

/// Reads `MaxItems` and `Marker`; a page has at most `longest` items.
pub(super) fn page(call: &Call, longest: u32) -> Result<PageRequest, Error> {
    let limit = match call.query("MaxItems") {
        None => DEFAULT_ITEMS,
        Some(text) => {
            let number: i64 =
                text.parse().map_err(|_| violation(text, "maxItems", "Member must be an integer"))?;
            if number < 1 {
                return Err(violation(
                    number,
                    "maxItems",
                    "Member must have value greater than or equal to 1",
                ));
            }
            if number > i64::from(MAXIMUM_ITEMS) {
                let rule = format!("Member must have value less than or equal to {MAXIMUM_ITEMS}");
                return Err(violation(number, "maxItems", &rule));
            }
            number as u32
        }
    };
    let after = call.query("Marker").map(decode).transpose()?;
    Ok(PageRequest { limit: limit.min(longest), after })
}

/// Reads `State`.
pub(super) fn state(call: &Call) -> Result<Option<NetworkConnectorState>, Error> {
    let rule =
        "Member must satisfy enum value set: [PENDING, ACTIVE, INACTIVE, FAILED, DELETING, DELETE_FAILED]";
    call.query("State")
        .map(|text| NetworkConnectorState::parse(text).ok_or_else(|| violation(text, "state", rule)))
        .transpose()
}

pub(super) fn invalid_marker() -> Error {
    invalid("The provided Marker is invalid.")
}

fn decode(marker: &str) -> Result<String, Error> {
    let bytes = URL_SAFE_NO_PAD.decode(marker).map_err(|_| invalid_marker())?;
    String::from_utf8(bytes).map_err(|_| invalid_marker())
}
