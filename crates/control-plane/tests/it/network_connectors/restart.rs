//! The rows over restarts: nothing but the time moves a connector.

use hearth_api::{NetworkConnectorState, Timestamp};
use hearth_records::{
    ConnectorPage, Connectors as _, DeletedNetworkConnector, InsertedNetworkConnector, NetworkConnectorKey,
    Quotas, Written,
};
use hearth_store_sqlite::Store;

#[tokio::test]
async fn states_go_on_over_a_restart() {
    let at = Timestamp::from_millis;
    let quotas = Quotas::default();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("hearth.db");
    let record = super::record("vpc", 2000, None);
    let arn = record.arn.clone();
    let key = NetworkConnectorKey { arn: &arn, name: None };
    let store = Store::open(&file).await.unwrap();
    let inserted = store.insert_network_connector(&record, None, None, at(1000), &quotas).await.unwrap();
    assert_eq!(inserted, InsertedNetworkConnector::Inserted);
    assert_eq!(store.network_connector(&key, at(1999)).await.unwrap().as_ref(), Some(&record));
    assert_eq!(record.state(at(1999)), NetworkConnectorState::Pending);
    store.close().await;

    let store = Store::open(&file).await.unwrap();
    let found = store.network_connector(&key, at(2000)).await.unwrap().unwrap();
    assert_eq!((found.state(at(2000)), found.latest_active), (NetworkConnectorState::Active, Some(1)));
    assert_eq!(found.tags, record.tags);
    let deleted = store.delete_network_connector(&found, None, None, at(3000), at(4000)).await.unwrap();
    assert_eq!(deleted, DeletedNetworkConnector::Written(Written::Yes));
    store.close().await;

    let store = Store::open(&file).await.unwrap();
    let found = store.network_connector(&key, at(3999)).await.unwrap().unwrap();
    assert_eq!(found.state(at(3999)), NetworkConnectorState::Deleting);
    assert!(!found.is_gone(at(3999)) && found.is_gone(at(4000)));
    for (now, listed) in [(3999, 1), (4000, 0)] {
        let page = ConnectorPage { after: None, state: None, limit: 10, now: at(now) };
        assert_eq!(store.network_connectors(&arn.account, &page).await.unwrap().len(), listed);
    }
    let next = super::record("vpc", 6000, None);
    for (now, expected) in
        [(3999, InsertedNetworkConnector::NameTaken), (4000, InsertedNetworkConnector::Inserted)]
    {
        assert_eq!(
            store.insert_network_connector(&next, None, None, at(now), &quotas).await.unwrap(),
            expected
        );
    }
}
