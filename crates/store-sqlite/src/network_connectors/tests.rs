//! What one account's connectors cost everybody is bounded, on a database in memory.

use super::changes::IS_USED;
use super::*;
use crate::client_tokens;
use hearth_records::{
    ClientToken, Error, Identities, IdentityKind, IdentityRow, IdentityWrite, Logs as _, Quota, Shared as _,
    Taggable, Tags, TokenClaim, Tokens,
};

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn account() -> AccountId {
    AccountId::from_stored("000000000000")
}

fn record(name: &str) -> NetworkConnectorRecord {
    let arn = NetworkConnectorArn::new("us-east-1", &account());
    let configuration = r#"{"VpcEgressConfiguration":{"SubnetIds":["subnet-1"]}}"#;
    NetworkConnectorRecord {
        arn: arn.clone(),
        generation: 0,
        name: name.to_owned(),
        tags: [].into(),
        modified_at: at(1000),
        active_at: at(1000),
        updated: None,
        gone_at: None,
        egress_rules: None,
        latest_active: None,
        latest: NetworkConnectorVersionRecord {
            arn,
            version: 1,
            configuration: serde_json::from_str(configuration).unwrap(),
            operator_role: String::new(),
            created_at: at(1000),
            active_at: at(1000),
            gone_at: None,
        },
    }
}

fn token(token: &str) -> ClientToken {
    let (parameters_hash, answer) = (String::new(), "{}".to_owned());
    let operation = "CreateNetworkConnector";
    ClientToken { account: account(), operation, token: token.to_owned(), parameters_hash, answer }
}

fn quotas(network_connectors: u32, versions_per_network_connector: u32) -> Quotas {
    Quotas { network_connectors, versions_per_network_connector, ..Quotas::default() }
}

fn rows(store: &Store, table: &str) -> i64 {
    store.number(&format!("SELECT count(*) FROM {table}"))
}

async fn found(store: &Store, arn: &NetworkConnectorArn, now: Timestamp) -> NetworkConnectorRecord {
    let key = NetworkConnectorKey { arn, name: None };
    store.network_connector(&key, now).await.unwrap().unwrap()
}

async fn deleted(store: &Store, was: &NetworkConnectorRecord, version: Option<u32>, gone_at: i64) {
    let written = store.delete_network_connector(was, version, None, at(gone_at - 1), at(gone_at));
    assert_eq!(written.await.unwrap(), DeletedNetworkConnector::Written(Written::Yes));
}

/// The kind: nobody can use the last of anything, by making and deleting either.
#[tokio::test]
async fn an_account_has_so_many_connectors_and_as_many_deleted_ones() {
    let store = Store::temporary().await.unwrap();
    let quotas = quotas(2, 2);
    let mut made = Vec::new();
    for n in 0..10 {
        let now = at(2000 + n);
        for name in ["a", "b"] {
            let record = record(name);
            let inserted = store.insert_network_connector(&record, None, None, now, &quotas).await.unwrap();
            assert_eq!(inserted, InsertedNetworkConnector::Inserted);
            made.push(record.arn);
        }
        let refused = store.insert_network_connector(&record("c"), None, None, now, &quotas).await.unwrap();
        assert_eq!(refused, InsertedNetworkConnector::QuotaExceeded(Quota::NetworkConnectors));
        for arn in made.iter().rev().take(2) {
            deleted(&store, &found(&store, arn, now).await, None, 2001 + n).await;
        }
    }
    assert!(rows(&store, "network_connectors") <= 2 + 2);
    assert_eq!(rows(&store, "network_connectors"), rows(&store, "network_connector_versions"));
    let last = found(&store, made.last().unwrap(), at(3000)).await;
    assert!(last.is_gone(at(3000)), "the last ones are remembered");
}

#[tokio::test]
async fn a_connector_has_so_many_versions_and_as_many_deleted_ones() {
    let store = Store::temporary().await.unwrap();
    let quotas = quotas(10, 2);
    let mut connector = record("a");
    store.insert_network_connector(&connector, None, None, at(1000), &quotas).await.unwrap();
    for n in 0..10 {
        let now = at(2000 + n);
        let next = |was: &NetworkConnectorRecord| {
            let mut to = was.clone();
            to.latest.version += 1;
            to.generation += 1;
            to
        };
        let (was, former) = (connector.clone(), connector.latest.version);
        connector = next(&was);
        let updated = store.update_network_connector(&was, &connector, None, None, now, &quotas);
        assert_eq!(updated.await.unwrap(), UpdatedNetworkConnector::Written(Written::Yes));
        let third = next(&connector);
        let refused = store.update_network_connector(&connector, &third, None, None, now, &quotas);
        let full = UpdatedNetworkConnector::QuotaExceeded(Quota::VersionsPerNetworkConnector);
        assert_eq!(refused.await.unwrap(), full);
        deleted(&store, &connector, Some(former), 2001 + n).await;
        connector.generation += 1;
    }
    assert!(rows(&store, "network_connector_versions") <= 2 + 2);
}

#[tokio::test]
async fn so_many_client_tokens_of_connectors_are_kept() {
    let store = Store::temporary().await.unwrap();
    let fill = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 1499)
        INSERT INTO client_tokens (account, operation, token, parameters_hash, answer, created_at)
        SELECT '000000000000', 'CreateNetworkConnector', n, '', '{}', n FROM n";
    store.execute(fill);
    let quotas = Quotas::default();
    store.insert_network_connector(&record("a"), None, Some(token("new")), at(1000), &quotas).await.unwrap();
    assert_eq!(rows(&store, "client_tokens"), i64::from(client_tokens::KEPT));
    for (known, kept) in [("new", true), ("1499", true), ("501", true), ("500", false)] {
        let claim = store.client_token(&token(known)).await.unwrap();
        assert_eq!(claim != TokenClaim::Fresh, kept, "{known}");
    }
}

#[tokio::test]
async fn gone_connectors_and_versions_are_removed_after_a_while() {
    let store = Store::temporary().await.unwrap();
    let quotas = Quotas::default();
    for (name, gone_at) in [("early", Some(4000)), ("late", Some(6000)), ("there", None)] {
        let record = record(name);
        store.insert_network_connector(&record, None, None, at(1000), &quotas).await.unwrap();
        if let Some(gone_at) = gone_at {
            deleted(&store, &record, None, gone_at).await;
        }
    }
    assert!(!store.sweep_network_connectors(at(5000)).await.unwrap());
    assert_eq!((rows(&store, "network_connectors"), rows(&store, "network_connector_versions")), (2, 2));
}

/// The kind: nobody waits for a walk over what everybody has.
#[tokio::test]
async fn who_refers_to_a_connector_is_found_by_an_index() {
    let store = Store::temporary().await.unwrap();
    let plan = store.plan(IS_USED);
    assert!(!plan.contains("SCAN microvms") && !plan.contains("SCAN image_versions"), "{plan}");
    for (index, times) in [("INDEX microvms_by_connector", 2), ("INDEX image_versions_by_connector", 2)] {
        assert_eq!(plan.matches(index).count(), times, "{plan}");
    }
    for (statement, index) in [
        (gone::GONE_CONNECTORS, "network_connectors_gone (gone_at<?)"),
        (gone::GONE_VERSIONS, "network_connector_versions_gone (gone_at<?)"),
    ] {
        let plan = store.plan(statement);
        assert!(plan.ends_with(index), "{plan}");
    }
}

/// The kind: when little room is left, it is for what becomes of microVMs.
#[tokio::test]
async fn nothing_that_clients_make_is_written_on_a_disk_that_is_nearly_full() {
    let store = Store::temporary().await.unwrap();
    let quotas = Quotas::default();
    let connector = record("a");
    store.insert_network_connector(&connector, None, None, at(1000), &quotas).await.unwrap();
    store.create_log_group(&account(), "g", &[].into()).await.unwrap();
    // Of procfs statvfs(3) says that it has no room at all.
    let full = Store { path: std::path::Path::new("/proc/self/stat").into(), ..store.clone() };
    let row =
        IdentityRow { account: account(), kind: IdentityKind::User, name: "ann".into(), value: "{}".into() };
    let delete = IdentityWrite::Delete { account: account(), kind: IdentityKind::User, name: "ann".into() };
    let tagged = Taggable::NetworkConnector(connector.arn.clone());
    let put = async |store: &Store, writes: &[IdentityWrite]| {
        let was = store.versions().await?.identities;
        store.write_identities(was, writes).await
    };
    let refusals = [
        full.insert_network_connector(&record("b"), None, None, at(1000), &quotas).await.err(),
        full.update_network_connector(&connector, &connector, None, None, at(1000), &quotas).await.err(),
        full.replace_tags(&tagged, &[].into(), &[].into(), None).await.err(),
        full.create_log_group(&account(), "h", &[].into()).await.err(),
        full.create_log_stream(&account(), "g", "s").await.err(),
        full.replace_log_tags(&account(), "g", &[].into(), &[].into()).await.err(),
        put(&full, &[IdentityWrite::Put(row.clone())]).await.err(),
    ];
    for (number, refused) in refusals.iter().enumerate() {
        assert!(matches!(refused, Some(Error::NoRoom { .. })), "{number}: {refused:?}");
    }
    // What takes rights away is not, nor what makes room.
    put(&store, &[IdentityWrite::Put(row.clone())]).await.unwrap();
    let inactive = IdentityRow { value: "{\"inactive\":true}".into(), ..row.clone() };
    put(&full, &[IdentityWrite::Put(inactive)]).await.unwrap();
    let longer = IdentityRow { value: "x".repeat(5000), ..row.clone() };
    let refused = put(&full, &[IdentityWrite::Put(longer)]).await;
    assert!(matches!(refused, Err(Error::NoRoom { .. })), "{refused:?}");
    let gone = IdentityRow { kind: IdentityKind::GoneRole, ..row };
    put(&full, &[IdentityWrite::Put(gone)]).await.unwrap();
    put(&full, &[delete]).await.unwrap();
    full.delete_log_group(&account(), "g").await.unwrap();
    deleted(&full, &connector, None, 2000).await;
}

#[tokio::test]
async fn connectors_conform() {
    let store = Store::temporary().await.unwrap();
    hearth_records::testing::connectors_conform(&store, record).await;
}
