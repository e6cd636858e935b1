//! What expires: log lines, records of terminated microVMs and deleted network connectors, client
//! tokens. A sweep goes over them once a minute, in short transactions with pauses, so that it
//! holds up nobody. Once an hour the lifecycle rules of buckets are followed, which count in days;
//! that is done beside it, since buckets can be large.

use std::sync::Arc;
use std::time::Duration;

use hearth_api::Timestamp;
use hearth_records::LogSweep;
use hearth_records::Records;
use tokio::task::JoinSet;

use crate::config::Config;

const PERIOD: Duration = Duration::from_mins(1);
const LIFECYCLE_PERIOD: Duration = Duration::from_hours(1);
/// Between two transactions, for those who want to write.
const PAUSE: Duration = Duration::from_millis(20);
/// Of one sweep: what others do hourly waits no longer, however fast somebody makes more to remove.
const ROUNDS: u32 = 1000;
/// How long deleting a network connector again succeeds.
const GONE_CONNECTOR_DAYS: u32 = 1;
const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// How long and how much is kept; `None` is for ever and without end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    group_bytes: Option<u64>,
    terminated_days: Option<u32>,
    client_token_days: Option<u32>,
    event_days: Option<u32>,
}

impl Limits {
    pub(crate) fn new(config: &Config) -> Self {
        let days = |days: u32| Some(days).filter(|days| *days > 0);
        Self {
            group_bytes: Some(config.logs.maximum_group_mib << 20).filter(|bytes| *bytes > 0),
            terminated_days: days(config.retention.terminated_days),
            client_token_days: days(config.retention.client_token_days),
            event_days: days(config.retention.event_days),
        }
    }
}

/// Sweeps until what it returns is dropped. `follow_rules` removes what has expired by the
/// lifecycle rules of buckets.
pub(crate) fn keep_sweeping<F, E>(
    store: Arc<dyn Records>,
    limits: Limits,
    follow_rules: impl Fn() -> F + Send + 'static,
) -> JoinSet<()>
where
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: std::error::Error + Send + 'static,
{
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            done("buckets could not be gone through", follow_rules()).await;
            tokio::time::sleep(LIFECYCLE_PERIOD).await;
        }
    });
    tasks.spawn(sweep_often(store, limits));
    tasks
}

async fn sweep_often(store: Arc<dyn Records>, limits: Limits) {
    loop {
        let store = store.clone();
        let sweep = async move { sweep(&*store, limits, Timestamp::now(), ROUNDS).await };
        let more = done("what has expired could not be removed", sweep).await;
        tokio::time::sleep(if more == Some(true) { PAUSE } else { PERIOD }).await;
    }
}

/// Works in a task of its own, so that a panic is not the end of all sweeping.
async fn done<T: Send + 'static, E: std::error::Error + Send + 'static>(
    otherwise: &'static str,
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Option<T> {
    match tokio_util::task::AbortOnDropHandle::new(tokio::spawn(work)).await {
        Ok(Ok(result)) => return Some(result),
        Ok(Err(error)) => tracing::error!(error = &error as &dyn std::error::Error, "{otherwise}"),
        Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "{otherwise}"),
    }
    None
}

/// Removes what has expired at `now`, in a limited number of rounds; true when there may be more:
/// the next sweep goes on, and knows what has expired meanwhile. Every kind and every account has
/// its turn in each round, so that an account that makes more than one step removes keeps nobody
/// else's from being removed.
async fn sweep(
    store: &dyn Records,
    limits: Limits,
    now: Timestamp,
    rounds: u32,
) -> hearth_records::Result<bool> {
    for _ in 0..rounds {
        if !round(store, limits, now).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// One step of each kind; true when there may be more.
async fn round(store: &dyn Records, limits: Limits, now: Timestamp) -> hearth_records::Result<bool> {
    let ago = |days: u32| Timestamp::from_millis(now.as_millis() - i64::from(days) * DAY_MILLIS);
    let mut any = false;
    for account in store.accounts_with_logs().await? {
        for what in LogSweep::ALL {
            paused(&mut any, store.sweep_logs(&account, what, now, limits.group_bytes).await?).await;
        }
    }
    if let Some(days) = limits.terminated_days {
        paused(&mut any, store.sweep_ended_microvms(ago(days)).await?).await;
    }
    if let Some(days) = limits.event_days {
        paused(&mut any, store.sweep_events(ago(days)).await?).await;
    }
    if let Some(days) = limits.client_token_days {
        paused(&mut any, store.sweep_client_tokens(ago(days)).await?).await;
    }
    paused(&mut any, store.sweep_network_connectors(ago(GONE_CONNECTOR_DAYS)).await?).await;
    Ok(any)
}

/// Notes that there is more to remove, and lets others write first.
async fn paused(any: &mut bool, more: bool) {
    if more {
        *any = true;
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use hearth_records::Logs as _;
    use std::convert::Infallible;

    use hearth_api::AccountId;

    use hearth_store_sqlite::Store;

    use super::*;

    #[tokio::test]
    async fn rules_of_buckets_without_end_hold_up_no_retention() {
        let account = AccountId::from_stored("000000000000");
        let store = Arc::new(Store::temporary().await.unwrap());
        let long_ago = Timestamp::from_millis(Timestamp::now().as_millis() - 2 * DAY_MILLIS);
        store.append_log(&account, "group", "a", &[(long_ago, "x".to_owned())]).await.unwrap();
        store.set_log_retention(&account, "group", Some(1)).await.unwrap();
        let limits = Limits::new(&toml::from_str("").unwrap());
        let _tasks = keep_sweeping(store.clone(), limits, std::future::pending::<Result<(), Infallible>>);
        for _ in 0..3000 {
            if store.log_group(&account, "group").await.unwrap().unwrap().stored_bytes == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("lines that have expired are still there");
    }

    #[tokio::test]
    async fn the_settings_decide_what_goes() {
        let account = AccountId::from_stored("000000000000");
        let store = Arc::new(Store::temporary().await.unwrap());
        let now = Timestamp::now();
        let line = || (now, "x".repeat(900_000));
        for group in ["small", "large"] {
            store.append_log(&account, group, "a", &[line()]).await.unwrap();
        }
        store.append_log(&account, "large", "a", &[line()]).await.unwrap();
        let bytes = async |group: &str| store.log_group(&account, group).await.unwrap().unwrap().stored_bytes;
        let mut config: Config = toml::from_str("[logs]\nmaximum_group_mib = 0").unwrap();
        sweep(&*store, Limits::new(&config), now, ROUNDS).await.unwrap();
        assert_eq!(bytes("large").await, 2 * 900_026);
        config.logs.maximum_group_mib = 1;
        sweep(&*store, Limits::new(&config), now, ROUNDS).await.unwrap();
        assert_eq!((bytes("small").await, bytes("large").await), (900_026, 900_026));
        store.set_log_retention(&account, "small", Some(1)).await.unwrap();
        let later = Timestamp::from_millis(now.as_millis() + DAY_MILLIS + 1);
        sweep(&*store, Limits::new(&config), later, ROUNDS).await.unwrap();
        assert_eq!((bytes("small").await, bytes("large").await), (0, 900_026));
    }

    /// The kind: nobody's work waits for another's to end.
    #[tokio::test]
    async fn every_kind_and_account_has_its_turn_in_each_round() {
        let store = Arc::new(Store::temporary().await.unwrap());
        let [greedy, other] = ["000000000000", "111122223333"].map(AccountId::from_stored);
        let now = Timestamp::now();
        let many: Vec<_> = (0..2500).map(|n| (now, n.to_string())).collect();
        store.append_log(&greedy, "g", "deleted", &many).await.unwrap();
        store.delete_log_stream(&greedy, "g", "deleted").await.unwrap().unwrap();
        store.append_log(&other, "g", "old", &many[..1]).await.unwrap();
        store.set_log_retention(&other, "g", Some(1)).await.unwrap();
        let limits = Limits::new(&Config::default());
        let later = Timestamp::from_millis(now.as_millis() + DAY_MILLIS + 1);
        assert!(round(&*store, limits, later).await.unwrap(), "a thousand lines of the first account went");
        let bytes = async |account| store.log_group(account, "g").await.unwrap().unwrap().stored_bytes;
        assert!(bytes(&greedy).await > 0);
        assert_eq!(bytes(&other).await, 0);
        sweep(&*store, limits, later, 1).await.unwrap();
        assert!(bytes(&greedy).await > 0, "it ends although there is more");
        sweep(&*store, limits, later, ROUNDS).await.unwrap();
        assert_eq!(bytes(&greedy).await, 0);
    }
}
