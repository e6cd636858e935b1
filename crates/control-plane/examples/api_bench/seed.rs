//! Records.

use hearth_api::{AccountId, ImageArn, ImageVersion, MicrovmId, MicrovmState, Timestamp};
use hearth_records::testing::settings;
use hearth_records::{Cause, MicrovmRecord, MicrovmSettings, Microvms as _, Origin, Quotas, Written};
use hearth_store_sqlite::Store;

use crate::CHANGES_PER_SECOND;
use crate::support::{ACCOUNT, Api, REGION};

/// Of every so many records one has not ended, up to [`MOST_ALIVE`].
const ALIVE_OF: usize = 10;
const MOST_ALIVE: usize = 50;
/// MicroVMs of the image that has few; they are the oldest.
const RARE: usize = 5;
const BEGIN_MILLIS: i64 = 1_700_000_000_000;

/// What was written.
pub(crate) struct Seeded {
    pub(crate) identifiers: Vec<String>,
    /// ARN of an image that few microVMs are of.
    pub(crate) rare_image: String,
    /// Path and query of the last page of 10 of the list.
    pub(crate) last_page: String,
}

/// Writes records of `size` microVMs as if they had been started one after the other.
pub(crate) async fn fill(api: &Api, size: usize) -> Seeded {
    let (common, rare) = (api.built_image("common", |_| ()).await, api.built_image("rare", |_| ()).await);
    let mut identifiers = Vec::with_capacity(size);
    for number in 0..size {
        let image = if number < RARE { &rare } else { &common };
        let alive = number % ALIVE_OF == 0 && number / ALIVE_OF < MOST_ALIVE;
        let record = record(image, number, alive);
        api.store.insert_microvm(&record, None, None, None, &quotas()).await.unwrap();
        identifiers.push(record.id.to_string());
    }
    let last_page = last_page(api).await;
    Seeded { identifiers, rare_image: rare.to_string(), last_page }
}

fn quotas() -> Quotas {
    Quotas { memory_mib: u64::MAX >> 1, ..Quotas::default() }
}

fn record(image: &ImageArn, number: usize, alive: bool) -> MicrovmRecord {
    let settings = MicrovmSettings {
        minimum_memory_mib: 2048,
        execution_role_arn: Some(format!("arn:aws:iam::{ACCOUNT}:role/execution")),
        maximum_duration_in_seconds: 28_800,
        ingress_network_connectors: vec![hearth_api::managed_connector_arn(REGION, "HTTP_INGRESS")],
        egress_network_connectors: vec![hearth_api::managed_connector_arn(REGION, "INTERNET_EGRESS")],
        ..settings()
    };
    let account = AccountId::from_stored(ACCOUNT);
    let pending = MicrovmRecord::pending(
        account,
        image.clone(),
        ImageVersion::FIRST,
        settings,
        hearth_records::NodeId::from_stored("node"),
    );
    let at = |millis: usize| Timestamp::from_millis(BEGIN_MILLIS + millis as i64);
    MicrovmRecord {
        state: if alive { MicrovmState::Running } else { MicrovmState::Terminated },
        started_at: at(number * 1000),
        terminated_at: (!alive).then(|| at(number * 1000 + 500)),
        ..pending
    }
}

/// Writes the record of one microVM again and again.
pub(crate) async fn change(store: Store, id: String) {
    let mut record = store.microvm(&MicrovmId::from_stored(id)).await.unwrap().unwrap();
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(1000 / CHANGES_PER_SECOND));
    loop {
        ticks.tick().await;
        let was = record.clone();
        record.generation += 1;
        let written = store.change_microvm(&was, &record, &Origin::of(Cause::Host)).await.unwrap();
        assert_eq!(written, Written::Yes);
    }
}

/// Follows the tokens.
async fn last_page(api: &Api) -> String {
    let mut target = "/2025-09-09/microvms?maxResults=10".to_owned();
    loop {
        let reply = api.call_at("GET", &target, serde_json::Value::Null).await;
        assert_eq!(reply.status, http::StatusCode::OK, "{reply:?}");
        let Some(token) = reply.body["nextToken"].as_str() else { return target };
        target = format!("/2025-09-09/microvms?maxResults=10&nextToken={token}");
    }
}
