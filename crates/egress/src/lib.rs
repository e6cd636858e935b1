//! What the guests of a node may reach: the egress connectors of microVMs and builds, resolved to
//! ways out, kept up to date while guests run, and the log of each guest.
//!
//! Invariants: nobody but this crate decides what a connector means; a guest whose connector cannot
//! be read is not started; a rule that was changed holds for the guests that run.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use hearth_api::{EgressDecisions, NetworkConnectorArn, Timestamp, reaches_internet};
use hearth_egress_policy::{InvalidPolicy, Policy};
use hearth_guest::{Egress, Guest, Held};
use hearth_host_net::{Decisions, Guard};
use hearth_records::EgressRules;

mod told;

/// The guests of a node, and what they may reach.
#[derive(Debug)]
pub struct Egresses {
    rules: Arc<dyn EgressRules>,
    guests: Mutex<HashMap<String, OfGuest>>,
    /// Held from the reading of rules until they are set: older ones must not overtake newer ones.
    updating: tokio::sync::Mutex<()>,
}

/// What is known of a guest, or was of one that is suspended.
#[derive(Debug, Clone)]
struct OfGuest {
    connector: NetworkConnectorArn,
    decisions: Arc<Decisions>,
    guard: Weak<Guard>,
}

/// Why it is not known what a guest may reach.
#[derive(Debug)]
pub enum Error {
    /// The connector cannot be read.
    Records(hearth_records::Error),
    /// Its rules, which were checked when they were written, are none.
    Rules(InvalidPolicy),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records(_) => f.write_str("the egress connector could not be read"),
            Self::Rules(_) => f.write_str("the rules of the egress connector could not be read"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Records(error) => Some(error),
            Self::Rules(error) => Some(error),
        }
    }
}

impl Egresses {
    /// By the rules that are kept there.
    pub fn new(rules: Arc<dyn EgressRules>) -> Arc<Self> {
        Arc::new(Self { rules, guests: Mutex::default(), updating: tokio::sync::Mutex::default() })
    }

    /// The way out of a guest of this name with these egress connectors.
    ///
    /// # Errors
    /// When that cannot be told.
    pub async fn resolve(&self, name: &str, connectors: &[String]) -> Result<Egress, Error> {
        if reaches_internet(connectors) {
            return Ok(Egress::Internet);
        }
        let Some(connector) = own_connector(connectors) else { return Ok(Egress::None) };
        let Some(policy) = self.policy(&connector).await? else { return Ok(Egress::None) };
        let decisions = self.guests().get(name).map(|known| Arc::clone(&known.decisions)).unwrap_or_default();
        Ok(Egress::Policy(Held { policy, decisions }))
    }

    /// Keeps a guest, which was just made with what [`Self::resolve`] has told, to its connector.
    pub async fn keep(&self, name: &str, connectors: &[String], guest: &Guest) {
        let (Some(guard), Some(connector)) = (guest.guard(), own_connector(connectors)) else { return };
        let of_guest = OfGuest { connector, decisions: guard.decisions(), guard: Arc::downgrade(&guard) };
        self.guests().insert(name.to_owned(), of_guest.clone());
        // It may have changed between the two.
        self.update(&[(name.to_owned(), of_guest)]).await;
    }

    /// Tells the guests of a connector that it has changed.
    pub async fn changed(&self, connector: &NetworkConnectorArn) {
        let connector = connector.unqualified();
        let concerned: Vec<_> = {
            let guests = self.guests();
            let concerned = guests.iter().filter(|(_, known)| known.connector.unqualified() == connector);
            concerned.map(|(name, known)| (name.clone(), known.clone())).collect()
        };
        self.update(&concerned).await;
    }

    /// Forgets a guest that does not come back.
    pub fn forget(&self, name: &str) {
        self.guests().remove(name);
    }

    /// What has been decided for a guest, as the API tells it; `None` if it has no policy.
    pub fn told(&self, name: &str) -> Option<EgressDecisions> {
        let decisions = Arc::clone(&self.guests().get(name)?.decisions);
        let (made, lost) = decisions.list();
        Some(EgressDecisions { decisions: made.into_iter().map(told::decision).collect(), lost })
    }

    async fn update(&self, guests: &[(String, OfGuest)]) {
        let _one_at_a_time = self.updating.lock().await;
        let mut policies: HashMap<NetworkConnectorArn, Arc<Policy>> = HashMap::new();
        for (name, known) in guests {
            let Some(guard) = known.guard.upgrade() else { continue };
            let policy = match policies.get(&known.connector) {
                Some(policy) => Arc::clone(policy),
                None => match self.policy(&known.connector).await {
                    // Without its connector, a guest reaches nothing any more.
                    Ok(policy) => policy.unwrap_or_default(),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(
                            guest = name,
                            error,
                            "an egress connector could not be read; what it allowed stays"
                        );
                        continue;
                    }
                },
            };
            policies.insert(known.connector.clone(), Arc::clone(&policy));
            if let Err(error) = guard.set_policy(policy) {
                tracing::error!(guest = name, %error, "a guest could not be held to its changed policy");
            }
        }
    }

    /// The rules of a connector; `None` if it has none, or is not there.
    async fn policy(&self, connector: &NetworkConnectorArn) -> Result<Option<Arc<Policy>>, Error> {
        let now = Timestamp::from_millis(jiff::Timestamp::now().as_millisecond());
        let rules = self.rules.egress_rules(connector, now).await.map_err(Error::Records)?;
        rules.map(|rules| Policy::parse(&rules).map(Arc::new).map_err(Error::Rules)).transpose()
    }

    fn guests(&self) -> MutexGuard<'_, HashMap<String, OfGuest>> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connector of an account's own among them; there is one egress connector at most.
fn own_connector(connectors: &[String]) -> Option<NetworkConnectorArn> {
    connectors.iter().find_map(|connector| NetworkConnectorArn::parse(connector))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use hearth_api::managed_connector_arn;
    use hearth_egress_policy::RuleText;

    use super::*;

    const ARN: &str = "arn:aws:lambda:us-east-1:000000000000:network-connector:nc-1";

    /// A connector with these rules, or records that cannot be read.
    #[derive(Debug)]
    struct Rules(Result<Option<Vec<RuleText>>, &'static str>);

    #[async_trait]
    impl EgressRules for Rules {
        async fn egress_rules(
            &self,
            _: &NetworkConnectorArn,
            _: Timestamp,
        ) -> hearth_records::Result<Option<Vec<RuleText>>> {
            self.0.clone().map_err(|why| hearth_records::Error::Failed(why.into()))
        }
    }

    async fn resolved(rules: Rules, connector: &str) -> Result<Egress, Error> {
        Egresses::new(Arc::new(rules)).resolve("microvm-1", &[connector.to_owned()]).await
    }

    #[tokio::test]
    async fn a_connector_means_one_thing() {
        let managed = |name| managed_connector_arn("us-east-1", name);
        let unread = || Rules(Err("unread"));
        assert_eq!(resolved(unread(), &managed("INTERNET_EGRESS")).await.unwrap(), Egress::Internet);
        assert_eq!(resolved(unread(), &managed("NO_EGRESS")).await.unwrap(), Egress::None);
        resolved(unread(), ARN).await.unwrap_err();
        assert_eq!(resolved(Rules(Ok(None)), ARN).await.unwrap(), Egress::None);
        let domain = |name: &str| RuleText { domain: Some(name.to_owned()), ..RuleText::default() };
        let rules = vec![domain("a.org")];
        let policy = Arc::new(Policy::parse(&rules).unwrap());
        let held = Egress::Policy(Held { policy, ..Held::default() });
        assert_eq!(resolved(Rules(Ok(Some(rules))), &format!("{ARN}:1")).await.unwrap(), held);
        resolved(Rules(Ok(Some(vec![domain("*.com")]))), ARN).await.unwrap_err();
    }
}
