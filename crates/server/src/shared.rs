//! What other processes on the same records have changed of what this one keeps in memory:
//! identities, the keys of endpoint tokens, revoked tokens.
//!
//! It is looked for a few times a second, by one read of four numbers, and not with each request: a
//! request pays nothing for it. What another process takes away is therefore refused here up to
//! [`PERIOD`] later, as on any service with more than one server; what this process takes away is
//! refused at once. A change is made of what is recorded, not of what is in memory.

use std::sync::Arc;
use std::time::Duration;

use hearth_identity::Identities;
use hearth_records::{Microvms, Shared};
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
    use hearth_records::{Actor, MicrovmRecord, NodeId};
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

    async fn process(records: &Arc<MemoryRecords>) -> SharedState {
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
        };
        state.look().await.unwrap();
        state
    }

    #[tokio::test]
    async fn a_token_that_one_revokes_the_other_refuses() {
        let records = Arc::new(MemoryRecords::default());
        let image = ImageArn::parse("arn:aws:lambda:us-east-1:000000000000:microvm-image:app").unwrap();
        let account = AccountId::from_stored("000000000000");
        let node = NodeId::from_stored("one");
        let record = MicrovmRecord::pending(account, image, ImageVersion::FIRST, settings(), node);
        records.put(record.clone(), None);
        let (one, mut other) = (process(&records).await, process(&records).await);
        let token = one.tokens.keys().issue(&claims(&record.id)).unwrap();
        assert!(other.tokens.keys().open(&token).is_ok(), "both have the same keys");

        let actor = Actor { principal: "p".to_owned(), request_id: "r".to_owned() };
        records.revoke_tokens(&record.id, &actor).await.unwrap();
        other.look().await.unwrap();
        assert_eq!(other.tokens.keys().open(&token).err(), Some(TokenError::Revoked));
        let new = one.tokens.keys().issue(&Claims { revocations: 1, ..claims(&record.id) }).unwrap();
        assert!(other.tokens.keys().open(&new).is_ok());
    }
}
