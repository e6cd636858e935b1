//! What other processes on the same records have changed of what this one keeps in memory:
//! identities, the keys of endpoint tokens, revoked tokens, limits.
//!
//! It is looked for a few times a second, by one read of four numbers, and not with each request: a
//! request pays nothing for it. What another process takes away is therefore refused here up to
//! [`PERIOD`] later, as on any service with more than one server; what this process takes away is
//! refused at once. A change is made of what is recorded, not of what is in memory.

use std::sync::Arc;
use std::time::Duration;

use hearth_identity::Identities;
use hearth_records::{CurrentLimits, Limits, Microvms, Setting, Shared, Versioned};
use jiff::Timestamp;

use crate::token_keys::SharedTokenKeys;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(250);

/// What is kept in memory, with the records that it is made of.
#[derive(Debug)]
pub(crate) struct SharedState {
    pub(crate) shared: Arc<dyn Shared>,
    pub(crate) microvms: Arc<dyn Microvms>,
    pub(crate) identities: Arc<Identities>,
    pub(crate) tokens: Arc<SharedTokenKeys>,
    /// The version of the revocations that were read; `None` before the first look.
    pub(crate) revocations: Option<u64>,
    pub(crate) limits: CurrentLimits,
    /// The version of the limits.
    pub(crate) limits_version: u64,
}

/// Puts the limits of this process's configuration in force, for all processes; their version.
pub(crate) async fn put_limits(shared: &dyn Shared, limits: &Limits) -> anyhow::Result<u64> {
    let text = serde_json::to_string(limits)?;
    loop {
        let Versioned { version, value } = shared.setting(Setting::Limits).await?;
        if value.as_deref() == Some(&*text) {
            return Ok(version);
        }
        if let Some(version) = shared.write_setting(Setting::Limits, version, &text).await? {
            return Ok(version);
        }
    }
}

impl SharedState {
    /// Reads again what has another version.
    pub(crate) async fn look(&mut self) -> anyhow::Result<()> {
        let versions = self.shared.versions().await?;
        self.identities.refresh(versions.identities).await?;
        self.tokens.refresh(versions.token_keys).await?;
        if self.revocations != Some(versions.revocations) {
            let revoked = self.microvms.token_revocations().await?;
            self.tokens.keys().revoke_all(revoked, Timestamp::now().as_second());
            self.revocations = Some(versions.revocations);
        }
        if versions.limits != self.limits_version {
            let Versioned { version, value } = self.shared.setting(Setting::Limits).await?;
            if let Some(text) = value {
                self.limits.set(serde_json::from_str(&text)?);
            }
            self.limits_version = version;
        }
        Ok(())
    }

    /// Looks until this is cancelled.
    pub(crate) async fn keep_looking(mut self) {
        let mut failed = false;
        loop {
            tokio::time::sleep(PERIOD).await;
            let looked = self.look().await;
            if let Err(error) = &looked
                && !failed
            {
                let error = format!("{error:#}");
                tracing::error!(
                    error,
                    "what other processes have changed cannot be read, and is tried again"
                );
            }
            failed = looked.is_err();
        }
    }
}

#[cfg(test)]
mod tests {
    use hearth_api::{AccountId, ImageArn, ImageVersion, MicrovmId, PortSpecification};
    use hearth_auth::{Claims, TokenError, TokenKind};
    use hearth_records::testing::{MemoryRecords, settings};
    use hearth_records::{Actor, LogQuotas, MicrovmRecord, NodeId, Quotas};
    use hearth_store_sqlite::Store;

    use super::*;
    use crate::token_keys::TokenKeyFile;

    fn claims(microvm: &MicrovmId) -> Claims {
        Claims {
            microvm: microvm.clone(),
            ports: vec![PortSpecification::AllPorts {}],
            expires_at_seconds: i64::MAX,
            kind: TokenKind::Http,
            revocations: 0,
        }
    }

    /// A process, and its data directory.
    async fn process(records: &Arc<MemoryRecords>) -> (SharedState, tempfile::TempDir) {
        let identities = Identities::open(Arc::new(Store::temporary().await.unwrap()), Vec::new());
        let directory = tempfile::tempdir().unwrap();
        let node = NodeId::from_stored(directory.path().to_str().unwrap());
        let file = TokenKeyFile::open(directory.path(), 0).unwrap();
        let mut state = SharedState {
            shared: records.clone(),
            microvms: records.clone(),
            identities: Arc::new(identities.await.unwrap()),
            tokens: Arc::new(file.share(records.clone(), &node).await.unwrap()),
            revocations: None,
            limits: CurrentLimits::default(),
            limits_version: put_limits(&**records, &Limits::default()).await.unwrap(),
        };
        state.look().await.unwrap();
        (state, directory)
    }

    #[tokio::test]
    async fn a_token_that_one_revokes_the_other_refuses() {
        let records = Arc::new(MemoryRecords::default());
        let image = ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:app").unwrap();
        let account = AccountId::from_stored("000000000000");
        let node = NodeId::from_stored("one");
        let record = MicrovmRecord::pending(account, image, ImageVersion::FIRST, settings(), node);
        records.put(record.clone(), None);
        let ((one, _one), (mut other, _other)) = (process(&records).await, process(&records).await);
        let token = one.tokens.keys().issue(&claims(&record.id)).unwrap();
        assert!(other.tokens.keys().open(&token).is_ok(), "both have the same keys");

        let actor = Actor { principal: "p".to_owned(), request_id: "r".to_owned() };
        records.revoke_tokens(&record.id, &actor).await.unwrap();
        other.look().await.unwrap();
        assert_eq!(other.tokens.keys().open(&token).err(), Some(TokenError::Revoked));
        let new = one.tokens.keys().issue(&Claims { revocations: 1, ..claims(&record.id) }).unwrap();
        assert!(other.tokens.keys().open(&new).is_ok());
    }

    #[tokio::test]
    async fn limits_are_those_of_the_process_that_started_last() {
        let records = Arc::new(MemoryRecords::default());
        let (mut one, mut other) = (process(&records).await, process(&records).await);
        let quotas = Quotas { images: 7, ..Quotas::default() };
        let logs = LogQuotas { groups: Some(3), ..LogQuotas::default() };
        put_limits(&*records, &Limits { quotas, logs }).await.unwrap();
        for (process, _) in [&mut one, &mut other] {
            process.look().await.unwrap();
            assert_eq!(process.limits.get(), Limits { quotas, logs });
        }
        let version = records.versions().await.unwrap().limits;
        let same = put_limits(&*records, &Limits { quotas, logs }).await.unwrap();
        assert_eq!(same, version, "a start without another configuration changes nothing");
    }
}
