//! The `Identifier` of a path: an id, a name or an ARN, which may be qualified with a version.

use hearth_api::{Error, NetworkConnectorArn, Timestamp};
use hearth_records::{NetworkConnectorKey, NetworkConnectorRecord, NetworkConnectorVersionRecord, Taggable};

use super::invalid;
use crate::call::Call;
use crate::config::{Context, store_failed};
use crate::connectors::connector_not_found;
use crate::validate::violation;

const MAXIMUM_LENGTH: usize = 140;

/// The ARN that the identifier is or stands for. A name becomes one as if it were an id, as the
/// service does in its errors.
pub(super) fn arn(context: &Context, call: &Call) -> Result<NetworkConnectorArn, Error> {
    let text = call.path("identifier");
    if text.chars().count() > MAXIMUM_LENGTH {
        let rule = format!("Member must have length less than or equal to {MAXIMUM_LENGTH}");
        return Err(violation(text, "identifier", &rule));
    }
    if !text.starts_with("arn:") {
        return Ok(NetworkConnectorArn::of(&context.config.region, &call.caller.account, text));
    }
    NetworkConnectorArn::parse(text).ok_or_else(|| invalid("Malformed network connector ARN"))
}

/// The same for operations on a connector as a whole.
pub(super) fn unqualified_arn(context: &Context, call: &Call) -> Result<NetworkConnectorArn, Error> {
    let arn = arn(context, call)?;
    if arn.version.is_none() {
        Ok(arn)
    } else {
        Err(invalid(format!("{arn} names a version; the identifier must name the network connector itself.")))
    }
}

/// The connector, even if it is gone as long as it is named by its id, for `action`.
pub(super) async fn connector_or_gone(
    context: &Context,
    call: &Call,
    action: &str,
    arn: &NetworkConnectorArn,
    now: Timestamp,
) -> Result<NetworkConnectorRecord, Error> {
    let text = call.path("identifier");
    let key = NetworkConnectorKey { arn, name: (!text.starts_with("arn:")).then_some(text) };
    let record =
        context.services.store.network_connector(&key, now).await.map_err(|error| store_failed(&error))?;
    let record = record.filter(|record| record.arn.account == call.caller.account);
    // Without one, the question is about what the caller named.
    let named = record.as_ref().map_or_else(|| arn.unqualified(), |record| record.arn.clone());
    if named.account == call.caller.account {
        context.authorize_on(call, action, &Taggable::NetworkConnector(named)).await?;
    }
    record.ok_or_else(|| connector_not_found(&arn.to_string()))
}

/// The connector, for `action`.
pub(super) async fn connector(
    context: &Context,
    call: &Call,
    action: &str,
    arn: &NetworkConnectorArn,
    now: Timestamp,
) -> Result<NetworkConnectorRecord, Error> {
    let record = connector_or_gone(context, call, action, arn, now).await?;
    if record.is_gone(now) { Err(connector_not_found(&arn.to_string())) } else { Ok(record) }
}

/// The version that a qualified ARN names, even if it is gone.
pub(super) async fn version_or_gone(
    context: &Context,
    arn: &NetworkConnectorArn,
    version: u32,
) -> Result<NetworkConnectorVersionRecord, Error> {
    let store = &context.services.store;
    let record = store.network_connector_version(arn, version).await.map_err(|error| store_failed(&error))?;
    record.ok_or_else(|| connector_not_found(&arn.to_string()))
}
