//! S3, CloudWatch Logs and STS alone on a loopback port, for trying them with the AWS CLI.
//!
//! `cargo run -p hearth-companions --example companions -- DIRECTORY PORT`; access key and secret are `test`.

use std::path::PathBuf;
use std::sync::Arc;

use hearth_api::{AccountId, Timestamp};
use hearth_auth::{Credential, Credentials};
use hearth_companions::ObjectStorage;
use hearth_store::Store;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let directory = PathBuf::from(arguments.next().ok_or("usage: companions DIRECTORY PORT")?);
    let port: u16 = arguments.next().ok_or("usage: companions DIRECTORY PORT")?.parse()?;
    let account = AccountId::from_stored("000000000000");
    let credential = Credential { secret: "test".to_owned(), account: account.clone() };
    let credentials = Arc::new(Credentials::from_iter([("test".to_owned(), credential)]));
    let storage = ObjectStorage::open(&directory, "us-east-1", &account)?;
    let store = Store::temporary().await?;
    let now = jiff::Timestamp::now().as_millisecond();
    let lines: Vec<_> = (0..25).map(|n| (Timestamp::from_millis(now + n), format!("line {n}"))).collect();
    store.append_log("/aws/lambda-microvms/demo", "build", &lines).await?;
    let router = hearth_companions::router(&storage, store, credentials, "us-east-1", &account);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, router).await?;
    Ok(())
}
