//! Which network connectors may be named where.

use hearth_api::{
    AccountId, ComputeResourceType, NetworkConnectorArn, NetworkConnectorState, Timestamp,
    managed_connector_arn,
};
use hearth_records::{NetworkConnectorKey, NetworkConnectorRecord};
use hearth_service::Error;

use crate::config::{Context, DefaultEgress};

const INGRESS: [&str; 4] = ["HTTP_INGRESS", "ALL_INGRESS", "SHELL_INGRESS", "NO_INGRESS"];
/// `NO_EGRESS` is not of the service's.
pub(crate) const EGRESS: [&str; 2] = ["INTERNET_EGRESS", "NO_EGRESS"];

/// Ingress connectors of a microVM; HTTP_INGRESS when none is named.
pub(crate) fn ingress(region: &str, wanted: Option<Vec<String>>) -> Result<Vec<String>, Error> {
    let wanted = wanted.unwrap_or_default();
    if wanted.is_empty() {
        return Ok(vec![managed_connector_arn(region, "HTTP_INGRESS")]);
    }
    for arn in &wanted {
        check(region, arn, &INGRESS)?;
    }
    Ok(wanted)
}

/// Egress connectors of an image version or microVM that are named, or else `inherited`. Whether
/// one of the account's own exists is for [`Context::check_connectors`] to say.
fn egress(
    region: &str,
    wanted: Option<Vec<String>>,
    inherited: Option<&[String]>,
) -> Result<Vec<String>, Error> {
    let wanted = wanted.unwrap_or_default();
    match wanted.as_slice() {
        [] => Ok(inherited.map(<[String]>::to_vec).unwrap_or_default()),
        [arn] => {
            if NetworkConnectorArn::parse(arn).is_none() {
                check(region, arn, &EGRESS)?;
            }
            Ok(wanted)
        }
        _ => Err(Error::validation("Only one egress network connector can be provided")),
    }
}

fn check(region: &str, arn: &str, known: &[&str]) -> Result<(), Error> {
    if known.iter().any(|name| managed_connector_arn(region, name) == arn) {
        Ok(())
    } else if arn.starts_with("arn:") && arn.contains(":aws:network-connector:") {
        Err(Error::validation(format!("Unrecognized managed network connector ARN: {arn}")))
    } else if NetworkConnectorArn::parse(arn).is_some() {
        Err(connector_not_found(arn))
    } else {
        Err(Error::validation("Malformed network connector ARN"))
    }
}

pub(crate) fn connector_not_found(arn: &str) -> Error {
    Error::not_found(format!("Network connector not found for: {arn}"))
}

impl Context {
    /// Egress connectors of an image version or microVM; `inherited` when none is named, and the
    /// operator's default when none is inherited.
    pub(crate) async fn egress(
        &self,
        account: &AccountId,
        wanted: Option<Vec<String>>,
        inherited: Option<&[String]>,
    ) -> Result<Vec<String>, Error> {
        let known = egress(&self.config.region, wanted, inherited)?;
        if known.is_empty() { Ok(vec![self.default_egress(account).await?]) } else { Ok(known) }
    }

    /// A policy that is not there lets nobody reach everything.
    async fn default_egress(&self, account: &AccountId) -> Result<String, Error> {
        let DefaultEgress { all, by_account } = &self.config.default_egress;
        let (name, region) = (by_account.get(account.as_str()).unwrap_or(all), &self.config.region);
        if EGRESS.contains(&name.as_str()) {
            return Ok(managed_connector_arn(region, name));
        }
        let now = Timestamp::now();
        let key =
            NetworkConnectorKey { arn: &NetworkConnectorArn::of(region, account, name), name: Some(name) };
        let policy = self.services.store.network_connector(&key, now).await?;
        let is_one = |record: &NetworkConnectorRecord| !record.is_gone(now) && record.egress_rules.is_some();
        policy.filter(is_one).map(|policy| policy.arn.to_string()).ok_or_else(|| {
            Error::validation(format!(
                "The operator lets this account reach what its egress policy {name} allows, and it has none of that name: \
                 make it, or name an egress network connector."
            ))
        })
    }

    /// Refuses connectors of the account's own, among those named by an image version or microVM,
    /// that are not there, not ACTIVE or not for microVMs.
    pub(crate) async fn check_connectors(
        &self,
        account: &AccountId,
        connectors: &[String],
    ) -> Result<(), Error> {
        for arn in connectors.iter().filter_map(|text| NetworkConnectorArn::parse(text)) {
            self.check_connector(account, &arn).await?;
        }
        Ok(())
    }

    /// An unqualified ARN stands for the newest version that is ACTIVE.
    async fn check_connector(&self, account: &AccountId, arn: &NetworkConnectorArn) -> Result<(), Error> {
        let now = Timestamp::now();
        let not_found = || connector_not_found(&arn.to_string());
        let store = &self.services.store;
        let connector = store
            .network_connector(&NetworkConnectorKey { arn, name: None }, now)
            .await?
            .filter(|connector| connector.arn.account == *account && !connector.is_gone(now))
            .ok_or_else(not_found)?;
        let number = arn.version.or(connector.latest_active).unwrap_or(connector.latest.version);
        let version = store
            .network_connector_version(arn, number)
            .await?
            .filter(|version| !version.is_gone(now))
            .ok_or_else(not_found)?;
        let state = version.state(now);
        if state != NetworkConnectorState::Active {
            return Err(Error::validation(format!(
                "The network connector {arn} is in state {}; it must be ACTIVE.",
                state.as_str()
            )));
        }
        let vpc = &version.configuration.vpc_egress_configuration;
        let types = vpc.associated_compute_resource_types.as_deref().unwrap_or_default();
        if !types.contains(&ComputeResourceType::MicroVm) {
            return Err(Error::validation(format!(
                "The network connector {arn} is not for compute resources of type MicroVm."
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: &str = "us-east-1";

    fn arn(name: &str) -> String {
        managed_connector_arn(REGION, name)
    }

    #[test]
    fn nothing_and_an_empty_list_name_nothing() {
        for nothing in [None, Some(vec![])] {
            assert_eq!(ingress(REGION, nothing.clone()).unwrap(), [arn("HTTP_INGRESS")]);
            assert!(egress(REGION, nothing.clone(), None).unwrap().is_empty());
            let inherited = ["x".to_owned()];
            assert_eq!(egress(REGION, nothing, Some(&inherited)).unwrap(), inherited);
        }
    }

    #[test]
    fn only_connectors_of_the_right_direction_are_known() {
        let verdict = |name: &str| egress(REGION, Some(vec![name.to_owned()]), None).map_err(|e| e.message);
        assert!(verdict(&arn("INTERNET_EGRESS")).is_ok());
        assert!(verdict(&arn("NO_EGRESS")).is_ok());
        assert!(verdict(&arn("HTTP_INGRESS")).unwrap_err().starts_with("Unrecognized managed"));
        assert_eq!(verdict("INTERNET_EGRESS").unwrap_err(), "Malformed network connector ARN");
        let own = "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1";
        assert!(verdict(own).is_ok());
        assert_eq!(verdict(&format!("{own}/a")).unwrap_err(), "Malformed network connector ARN");
        assert!(
            ingress(REGION, Some(vec![own.to_owned()])).unwrap_err().message.contains("not found for: arn")
        );
        let two = vec![arn("INTERNET_EGRESS"); 2];
        assert!(egress(REGION, Some(two), None).is_err());
        assert!(ingress(REGION, Some(vec![arn("HTTP_INGRESS"), arn("SHELL_INGRESS")])).is_ok());
    }
}
