//! DeleteNetworkConnector: the connector, or with a qualified ARN one version that is not its
//! latest. Repeating it changes nothing, even when what is named is gone.

use hearth_api::NetworkConnectorState;
use hearth_records::{DeletedNetworkConnector, NetworkConnectorRecord};
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb};

use super::shapes::IDENTIFIER_ONLY;
use super::{CONNECTOR, answering, conflict, invalid, settled, views};
use crate::access::Access;
use crate::config::Context;
use crate::named_connectors::{NamedConnector, Which, version_or_gone};

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "DeleteNetworkConnector",
    Effect::Write,
    answering(202, Verb::Delete, CONNECTOR),
    IDENTIFIER_ONLY,
    Access::Connector(Which::AlsoGone, |context, call, named| Box::pin(run(context, call, named))),
);

async fn run(context: &Context, _: Call, named: NamedConnector) -> Outcome {
    let NamedConnector { wanted, record: connector, now } = named;
    let (arn, version, state) = match wanted.version {
        None => (connector.arn.clone(), connector.latest.clone(), connector.state(now)),
        Some(number) => {
            let version = version_or_gone(context, &wanted, number).await?;
            let state = version.state(now);
            (wanted, version, state)
        }
    };
    match state {
        NetworkConnectorState::Deleting => {}
        NetworkConnectorState::Pending if arn.version.is_none() => {
            let message = format!("The network connector {arn} is in state PENDING; try again later.");
            return Err(conflict(message));
        }
        _ => {
            check_not_latest(&connector, arn.version)?;
            let store = &context.services.store;
            let deleted = store.delete_network_connector(&arn, settled(now)).await?;
            if deleted == DeletedNetworkConnector::InUse {
                let message = format!(
                    "The network connector {arn} is in use by MicroVMs or MicroVM images and cannot be deleted."
                );
                return Err(conflict(message));
            }
        }
    }
    let answer = views::description(&connector, &version, NetworkConnectorState::Deleting);
    Ok(Answer::json(&answer))
}

/// While an update is in progress, what it replaces is still in use.
fn check_not_latest(connector: &NetworkConnectorRecord, version: Option<u32>) -> Result<(), Error> {
    match version {
        Some(number) if number == connector.latest.version || Some(number) == connector.latest_active => {
            Err(invalid(format!(
                "{} is the latest version of the network connector and can only be deleted with it.",
                connector.arn.qualified(number)
            )))
        }
        _ => Ok(()),
    }
}
