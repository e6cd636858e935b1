//! Network connectors as requests name them: by id, by name or by an ARN, which may be qualified
//! with a version.

use hearth_api::{ErrorKind, NetworkConnectorArn, Timestamp};
use hearth_records::{NetworkConnectorKey, NetworkConnectorRecord, NetworkConnectorVersionRecord, Taggable};
use hearth_service::validate::violation;
use hearth_service::{Asked, Error, Permit};

use crate::config::Context;
use crate::connectors::connector_not_found;

const MAXIMUM_LENGTH: usize = 140;

/// Which connectors an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// A connector, or one of its versions.
    Any,
    /// The same, also when the connector is gone as long as it is named by its id.
    AlsoGone,
    /// A connector as a whole.
    Whole,
}

/// A connector that a request names.
#[derive(Debug)]
pub struct NamedConnector {
    /// What was named, as an ARN; with a version if one was.
    pub(crate) wanted: NetworkConnectorArn,
    /// The connector.
    pub(crate) record: NetworkConnectorRecord,
    /// When it was looked up.
    pub(crate) now: Timestamp,
}

impl Context {
    /// Any connector of the caller's account, in policies.
    pub(crate) fn any_connector(&self, asked: &Asked) -> Taggable {
        let account = &asked.caller().account;
        Taggable::NetworkConnector(NetworkConnectorArn::of(&self.config.region, account, "*"))
    }

    /// The connector that the request names, for `action`.
    pub(crate) async fn connector_of(
        &self,
        asked: &Asked,
        action: &str,
        which: Which,
    ) -> Result<(NamedConnector, Permit), Error> {
        let now = now();
        let wanted = self.wanted(asked, which)?;
        let not_found = || connector_not_found(&wanted.to_string());
        let text = asked.input().required("identifier");
        let key = NetworkConnectorKey { arn: &wanted, name: (!text.starts_with("arn:")).then_some(text) };
        let record = self.services.store.network_connector(&key, now).await?;
        let account = &asked.caller().account;
        let record = record.filter(|record| record.arn.account == *account);
        // Without one, the question is about what the caller named.
        let named = record.as_ref().map_or_else(|| wanted.unqualified(), |record| record.arn.clone());
        if named.account != *account {
            return Err(not_found());
        }
        let permit = self.may(asked, action, &Taggable::NetworkConnector(named)).await?;
        let record = record.ok_or_else(not_found)?;
        if record.is_gone(now) && which != Which::AlsoGone {
            return Err(not_found());
        }
        Ok((NamedConnector { wanted, record, now }, permit))
    }

    /// The ARN that the identifier is or stands for. A name becomes one as if it were an id, as the
    /// service does in its errors.
    fn wanted(&self, asked: &Asked, which: Which) -> Result<NetworkConnectorArn, Error> {
        let text = asked.input().required("identifier");
        if text.chars().count() > MAXIMUM_LENGTH {
            let rule = format!("Member must have length less than or equal to {MAXIMUM_LENGTH}");
            return Err(Error::validation(violation(text, "identifier", &rule)));
        }
        if !text.starts_with("arn:") {
            return Ok(NetworkConnectorArn::of(&self.config.region, &asked.caller().account, text));
        }
        let arn =
            NetworkConnectorArn::parse(text).ok_or_else(|| invalid("Malformed network connector ARN"))?;
        if which == Which::Whole && arn.version.is_some() {
            let message =
                format!("{arn} names a version; the identifier must name the network connector itself.");
            return Err(invalid(message));
        }
        Ok(arn)
    }
}

/// The version that a qualified ARN names, even if it is gone.
pub(crate) async fn version_or_gone(
    context: &Context,
    arn: &NetworkConnectorArn,
    version: u32,
) -> Result<NetworkConnectorVersionRecord, Error> {
    let record = context.services.store.network_connector_version(arn, version).await?;
    record.ok_or_else(|| connector_not_found(&arn.to_string()))
}

/// The time, as exact as it is stored.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_millis(jiff::Timestamp::now().as_millisecond())
}

/// 400 InvalidParameterValueException.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidParameterValue, message)
}
