//! Pages of lists: `MaxItems` and `Marker` in, `NextMarker` out; and the `State` filter,
//! which counts before them.

use hearth_api::{Error, NetworkConnectorState};

use super::invalid;
use crate::call::Call;
use crate::config::Context;
use crate::page::{PageMembers, PageRequest};

/// Items of a page when nothing is asked for, and the most that
/// ListNetworkConnectors gives (model).
pub(super) const DEFAULT_ITEMS: u32 = 50;

/// Reads `MaxItems` and `Marker`, whose shapes were checked; a page has at most `longest` items.
pub(super) fn page(context: &Context, call: &Call, longest: u32) -> Result<PageRequest, Error> {
    let members = PageMembers { limit: "MaxItems", token: "Marker", default: DEFAULT_ITEMS, longest };
    PageRequest::named(context, call, &members).map_err(|_| invalid_marker())
}

/// Reads `State`, whose shape was checked.
pub(super) fn state(call: &Call) -> Option<NetworkConnectorState> {
    call.query("State").and_then(NetworkConnectorState::parse)
}

pub(super) fn invalid_marker() -> Error {
    invalid("The provided Marker is invalid.")
}
