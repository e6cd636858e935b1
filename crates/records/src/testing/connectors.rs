//! What every keeper of network connectors must do.

use hearth_api::Timestamp;

use hearth_egress_policy::RuleText;

use crate::{
    Actor, Connectors, DeletedNetworkConnector, EventQuery, EventStart, Events, InsertedNetworkConnector,
    NetworkConnectorKey, NetworkConnectorRecord, NewEvent, Quotas, UpdatedNetworkConnector, Written,
};

/// When everything is done, in milliseconds.
const NOW: i64 = 5_000;
/// When it has settled.
const SETTLED: i64 = 6_000;

/// Runs the suite; `new` makes a connector of a name, with version 1, that nobody has recorded.
///
/// # Panics
/// When the keeper does not do what it must.
pub async fn connectors_conform<K: Connectors + Events>(
    keeper: &K,
    new: impl Fn(&str) -> NetworkConnectorRecord,
) {
    let mut connector = new("conforms");
    connector.active_at = Timestamp::from_millis(SETTLED);
    connector.latest.active_at = connector.active_at;
    let suite = Suite { keeper, connector, actor: Actor { principal: "p".into(), request_id: "r".into() } };
    suite.insert().await;
    let was = suite.read().await.unwrap();
    suite.update().await;
    suite.a_stale_writer_gets_the_record_back(&was).await;
    suite.delete_a_version().await;
    suite.a_stale_writer_gets_the_record_back(&was).await;
    suite.delete().await;
    suite.a_stale_writer_gets_the_record_back(&was).await;
    suite.each_change_is_told_once().await;
}

struct Suite<'a, K> {
    keeper: &'a K,
    connector: NetworkConnectorRecord,
    actor: Actor,
}

impl<K: Connectors + Events> Suite<'_, K> {
    async fn read(&self) -> Option<NetworkConnectorRecord> {
        let key = NetworkConnectorKey { arn: &self.connector.arn, name: None };
        self.keeper.network_connector(&key, Timestamp::from_millis(NOW)).await.unwrap()
    }

    async fn insert(&self) {
        let (now, quotas) = (Timestamp::from_millis(NOW), Quotas::default());
        for expected in [InsertedNetworkConnector::Inserted, InsertedNetworkConnector::NameTaken] {
            let actor = Some(&self.actor);
            let inserted = self.keeper.insert_network_connector(&self.connector, actor, None, now, &quotas);
            assert_eq!(inserted.await.unwrap(), expected);
        }
        assert_eq!(self.read().await.as_ref(), Some(&self.connector));
    }

    fn next(was: &NetworkConnectorRecord) -> NetworkConnectorRecord {
        let mut to = was.clone();
        to.generation += 1;
        to.latest.version += 1;
        to
    }

    async fn written(
        &self,
        was: &NetworkConnectorRecord,
        to: &NetworkConnectorRecord,
    ) -> UpdatedNetworkConnector {
        let (now, quotas) = (Timestamp::from_millis(NOW), Quotas::default());
        let actor = Some(&self.actor);
        self.keeper.update_network_connector(was, to, actor, None, now, &quotas).await.unwrap()
    }

    async fn update(&self) {
        let was = self.read().await.unwrap();
        let mut to = Self::next(&was);
        to.egress_rules = Some(vec![RuleText { domain: Some("a.org".to_owned()), ..RuleText::default() }]);
        to.latest.version = was.latest.version;
        assert_eq!(self.written(&was, &to).await, UpdatedNetworkConnector::Written(Written::Yes));
        let was = self.read().await.unwrap();
        assert_eq!(was.egress_rules, to.egress_rules);
        let to = Self::next(&was);
        assert_eq!(self.written(&was, &to).await, UpdatedNetworkConnector::Written(Written::Yes));
        assert_eq!(self.read().await, Some(to));
    }

    async fn gone(
        &self,
        was: &NetworkConnectorRecord,
        version: Option<u32>,
    ) -> Written<NetworkConnectorRecord> {
        let (now, gone_at) = (Timestamp::from_millis(NOW), Timestamp::from_millis(SETTLED));
        let actor = Some(&self.actor);
        match self.keeper.delete_network_connector(was, version, actor, now, gone_at).await.unwrap() {
            DeletedNetworkConnector::Written(written) => written,
            DeletedNetworkConnector::InUse => panic!("nobody uses it"),
        }
    }

    async fn delete_a_version(&self) {
        let was = self.read().await.unwrap();
        assert_eq!(self.gone(&was, Some(1)).await, Written::Yes);
        let now = self.read().await.unwrap();
        assert_eq!((now.generation, now.gone_at), (was.generation + 1, None));
        // Once more, which changes nothing.
        assert_eq!(self.gone(&now, Some(1)).await, Written::Yes);
        assert_eq!(self.read().await, Some(now));
    }

    async fn delete(&self) {
        let was = self.read().await.unwrap();
        assert_eq!(self.gone(&was, None).await, Written::Yes);
        let now = self.read().await.unwrap();
        assert_eq!(
            (now.generation, now.gone_at),
            (was.generation + 1, Some(Timestamp::from_millis(SETTLED)))
        );
        assert_eq!(self.gone(&now, None).await, Written::Yes);
        assert_eq!(self.read().await, Some(now));
    }

    async fn a_stale_writer_gets_the_record_back(&self, was: &NetworkConnectorRecord) {
        let now = self.read().await.unwrap();
        let stale = || Written::Stale(Some(Box::new(now.clone())));
        assert_eq!(self.written(was, &Self::next(was)).await, UpdatedNetworkConnector::Written(stale()));
        for version in [None, Some(1)] {
            assert_eq!(self.gone(was, version).await, stale());
        }
        assert_eq!(self.read().await.as_ref(), Some(&now), "nothing is written");
        let mut unknown = was.clone();
        unknown.arn.id += "x";
        let written = self.written(&unknown, &Self::next(&unknown)).await;
        assert_eq!(written, UpdatedNetworkConnector::Written(Written::Stale(None)));
        assert_eq!(self.gone(&unknown, None).await, Written::Stale(None));
    }

    async fn each_change_is_told_once(&self) {
        let arn = &self.connector.arn;
        let query = EventQuery {
            account: &arn.account,
            start: EventStart::After(0),
            resource: Some(&arn.to_string()),
            limit: 100,
        };
        let events = self.keeper.events(&query).await.unwrap();
        let told: Vec<_> = events.iter().map(|event| line(&event.event)).collect();
        assert_eq!(
            told,
            [
                "5000 STATE - PENDING",
                "6000 STATE PENDING ACTIVE",
                "5000 RULES - 1",
                "5000 VERSION 1 2",
                "6000 VERSION 1 -",
                "5000 STATE PENDING DELETING",
                "6000 STATE DELETING -",
            ]
        );
        assert!(events.iter().all(|event| event.event.origin.actor.as_ref() == Some(&self.actor)));
    }
}

/// When, what, from and to.
fn line(event: &NewEvent) -> String {
    let [from, to] = [&event.from, &event.to].map(|text| text.as_deref().unwrap_or("-"));
    format!("{} {} {from} {to}", event.at.as_millis(), event.what.as_str())
}
