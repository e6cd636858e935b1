//! S3, CloudWatch Logs, Service Quotas and STS alone on a loopback port, for trying
//! them with the AWS CLI.
//!
//! `cargo run -p hearth-gateway --example neighbours -- DIRECTORY PORT`; access key
//! and secret are `test`.

use hearth_records::Logs as _;
use std::path::PathBuf;
use std::sync::Arc;

use hearth_api::{AccountId, Timestamp};
use hearth_gateway::Neighbours;
use hearth_identity::{Identities, RootKey};
use hearth_quotas_api::QuotaValues;
use hearth_s3_api::{ObjectStorage, StorageLimits};
use hearth_service::pages::PageKey;
use hearth_store_sqlite::Store;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: neighbours DIRECTORY PORT")?);
    let port: u16 = arguments.next().ok_or("usage: neighbours DIRECTORY PORT")?.parse()?;
    let account = AccountId::from_stored("000000000000");
    let root = RootKey { account: account.clone(), access_key: "test".to_owned(), secret: "test".to_owned() };
    let storage = ObjectStorage::open(&directory, "us-east-1", &account, StorageLimits::default())?;
    let store = Store::temporary().await?;
    let now = jiff::Timestamp::now().as_millisecond();
    let lines: Vec<_> = (0..25).map(|n| (Timestamp::from_millis(now + n), format!("line {n}"))).collect();
    store.append_log(&account, "/aws/lambda-microvms/demo", "build", &lines).await?;
    let quotas = QuotaValues {
        maximum_duration_seconds: 28_800,
        memory_mib: 1024,
        images: 1,
        versions_per_image: 1,
        images_gib: 256,
        concurrent_builds: 1,
        running_builds: 1,
        concurrent_pulls: 2,
        base_images_mib: 1024,
        network_connectors: 100,
        versions_per_network_connector: 50,
        run_microvm: 1,
        suspend_microvm: 1,
        resume_microvm: 1,
        terminate_microvm: 1,
        create_microvm_auth_token: 1,
        log_groups: 10_000,
        log_streams: 100_000,
        log_mib: 10_240,
        live_tail_sessions: 15,
        s3_buckets: 1000,
        s3_gib: 7,
    };
    let identities = Arc::new(Identities::open(Arc::new(store.clone()), vec![root]).await?);
    let neighbours = Neighbours::new(
        &storage,
        Arc::new(store),
        &identities,
        "us-east-1",
        PageKey([0; 32]),
        (quotas, quotas),
        &[],
    );
    let router = neighbours.router();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}
