//! Pages of lists: `MaxItems` and `Marker` in, `NextMarker` out; and the `State` filter,
//! which counts before them.

use hearth_api::NetworkConnectorState;
use hearth_service::pages::Page;
use hearth_service::{Asked, Error};

use super::invalid;
use crate::config::Context;
use crate::pages::PageMembers;

/// Items of a page when nothing is asked for, and the most that
/// ListNetworkConnectors gives (model).
pub(super) const DEFAULT_ITEMS: u32 = 50;

/// Reads `MaxItems` and `Marker`, whose shapes were checked; a page has at most `longest` items.
pub(super) fn page(context: &Context, asked: &Asked, longest: u32) -> Result<Page, Error> {
    let members = PageMembers { limit: "MaxItems", token: "Marker", default: DEFAULT_ITEMS, longest };
    context.page_of(asked, &members).map_err(|_| invalid_marker())
}

/// Reads `State`, whose shape was checked.
pub(super) fn state(asked: &Asked) -> Option<NetworkConnectorState> {
    asked.input().get("State").and_then(NetworkConnectorState::parse)
}

pub(super) fn invalid_marker() -> Error {
    invalid("The provided Marker is invalid.")
}
