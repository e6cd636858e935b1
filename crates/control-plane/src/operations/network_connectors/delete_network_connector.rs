//! DeleteNetworkConnector: the connector, or with a qualified ARN one version that is not its
//! latest. Repeating it changes nothing, even when what is named is gone.

use hearth_api::NetworkConnectorState;
use hearth_records::{DeletedNetworkConnector, NetworkConnectorRecord, Written};
use hearth_service::{Answer, Call, Effect, Error, Operation, Outcome, Verb};

use super::shapes::IDENTIFIER_ONLY;
use super::{CONNECTOR, answering, conflict, invalid, settled, views};
use crate::access::{Access, actor};
use crate::config::Context;
use crate::named_connectors::{NamedConnector, Which, version_or_gone};

pub(super) const OPERATION: Operation<Context> = Operation::new(
    "DeleteNetworkConnector",
    Effect::Write,
    answering(202, Verb::Delete, CONNECTOR),
    IDENTIFIER_ONLY,
    Access::Connector(Which::AlsoGone, |context, call, named| Box::pin(run(context, call, named))),
);

async fn run(context: &Context, call: Call, named: NamedConnector) -> Outcome {
    let NamedConnector { wanted, record: mut connector, now } = named;
    let actor = actor(&call);
    loop {
        let (arn, version, state) = match wanted.version {
            None => (connector.arn.clone(), connector.latest.clone(), connector.state(now)),
            Some(number) => {
                let version = version_or_gone(context, &wanted, number).await?;
                let state = version.state(now);
                (wanted.clone(), version, state)
            }
        };
        if state != NetworkConnectorState::Deleting {
            check_deletable(&connector, arn.version, state)?;
            let store = &context.services.store;
            let gone_at = settled(now);
            let deleted =
                store.delete_network_connector(&connector, arn.version, Some(&actor), now, gone_at).await?;
            match deleted {
                DeletedNetworkConnector::Written(Written::Stale(Some(known))) => {
                    connector = *known;
                    continue;
                }
                // What is not there any more was deleted.
                DeletedNetworkConnector::Written(Written::Yes | Written::Stale(None)) => {}
                DeletedNetworkConnector::InUse => {
                    return Err(conflict(format!(
                        "The network connector {arn} is in use by MicroVMs or MicroVM images and cannot be deleted."
                    )));
                }
            }
        }
        let answer = views::description(&connector, &version, NetworkConnectorState::Deleting);
        return Ok(Answer::json(&answer));
    }
}

/// While an update is in progress, what it replaces is still in use.
fn check_deletable(
    connector: &NetworkConnectorRecord,
    version: Option<u32>,
    state: NetworkConnectorState,
) -> Result<(), Error> {
    match version {
        None if state == NetworkConnectorState::Pending => Err(conflict(format!(
            "The network connector {} is in state PENDING; try again later.",
            connector.arn
        ))),
        Some(number) if number == connector.latest.version || Some(number) == connector.latest_active => {
            Err(invalid(format!(
                "{} is the latest version of the network connector and can only be deleted with it.",
                connector.arn.qualified(number)
            )))
        }
        _ => Ok(()),
    }
}
