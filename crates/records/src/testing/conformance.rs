//! What every keeper of records must do, whatever it keeps them in.

use std::sync::Arc;

use hearth_api::{AccountId, ImageArn, ImageVersion, MicrovmState, Timestamp};

use super::settings;
use crate::{
    Actor, Cause, ClientToken, InsertedMicrovm, MicrovmFilter, MicrovmRecord, MicrovmSettings, Microvms,
    NodeId, Origin, Owner, Phase, Quota, Quotas, Reason, Shared, TokenClaim, Written,
};

/// A keeper without microVMs, and a version in it that can be launched.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The keeper.
    pub microvms: Arc<dyn Microvms>,
    /// What it shares with others.
    pub shared: Arc<dyn Shared>,
    /// The version.
    pub version: (ImageArn, ImageVersion),
}

impl Subject {
    /// Runs the whole suite.
    ///
    /// # Panics
    /// When the keeper does not do what it must.
    pub async fn conforms(&self) {
        self.what_is_inserted_is_found().await;
        self.a_client_token_stands_for_one_microvm().await;
        self.a_stale_writer_gets_the_record_back().await;
        self.who_takes_over_shuts_the_former_owner_out().await;
        self.of_many_writers_one_wins_each_time().await;
        self.a_payload_stays_until_the_app_has_been_told().await;
        self.revocations_are_counted_beside_other_changes().await;
        self.pages_are_behind_one_another().await;
        self.what_ended_long_ago_goes().await;
    }

    fn pending(&self, account: &str) -> MicrovmRecord {
        let (arn, version) = self.version.clone();
        let account = AccountId::from_stored(account);
        MicrovmRecord::pending(account, arn, version, settings(), NodeId::from_stored("a"))
    }

    async fn inserted(&self, account: &str) -> MicrovmRecord {
        let record = self.pending(account);
        let inserted = self.microvms.insert_microvm(&record, None, None, None, &Quotas::default()).await;
        assert_eq!(inserted.unwrap(), InsertedMicrovm::Inserted);
        self.read(&record).await
    }

    /// As it is kept: moments have whole milliseconds there.
    async fn read(&self, record: &MicrovmRecord) -> MicrovmRecord {
        self.microvms.microvm(&record.id).await.unwrap().unwrap()
    }

    async fn change(&self, was: &MicrovmRecord, to: &MicrovmRecord) -> Written<MicrovmRecord> {
        self.microvms.change_microvm(was, to, &Origin::of(Cause::Host)).await.unwrap()
    }

    async fn what_is_inserted_is_found(&self) {
        let record = self.inserted("1").await;
        assert_eq!((record.state, record.phase), (MicrovmState::Pending, Phase::Launching));
        let before = self.microvms.microvm_changes();
        let mut to = record.entering(Phase::Suspended);
        to.reason = Some(Reason::RunsOn { why: "no room".to_owned() });
        to.suspended_at = Some(Timestamp::from_millis(5));
        to.spent = 3;
        assert_eq!(self.change(&record, &to).await, Written::Yes);
        assert_eq!(self.read(&record).await, to);
        assert!(self.microvms.microvm_changes() > before);
        assert!(self.microvms.microvms_alive().await.unwrap().contains(&to));
        let ended = to.entering(Phase::Terminated);
        assert_eq!(self.change(&to, &ended).await, Written::Yes);
        let alive = self.microvms.microvms_alive().await.unwrap();
        assert!(alive.iter().all(|other| other.id != record.id));

        let large = MicrovmRecord {
            settings: MicrovmSettings { minimum_memory_mib: 1 << 30, ..record.settings.clone() },
            ..self.pending("1")
        };
        let refused =
            self.microvms.insert_microvm(&large, None, None, None, &Quotas::default()).await.unwrap();
        assert_eq!(refused, InsertedMicrovm::QuotaExceeded(Quota::Memory));
        let gone = MicrovmRecord { image_version: ImageVersion(9_999), ..self.pending("1") };
        let refused =
            self.microvms.insert_microvm(&gone, None, None, None, &Quotas::default()).await.unwrap();
        assert_eq!(refused, InsertedMicrovm::VersionGone);
        assert_eq!(self.microvms.microvm(&gone.id).await.unwrap(), None);
    }

    async fn a_client_token_stands_for_one_microvm(&self) {
        let token = |parameters: &str, answer: &str| ClientToken {
            account: AccountId::from_stored("1"),
            operation: "RunMicrovm",
            token: "t".to_owned(),
            parameters_hash: parameters.to_owned(),
            answer: answer.to_owned(),
        };
        for (token, expected) in [
            (token("p", "first"), InsertedMicrovm::Inserted),
            (token("p", "second"), InsertedMicrovm::Token(TokenClaim::Replay("first".to_owned()))),
            (token("q", "third"), InsertedMicrovm::Token(TokenClaim::Mismatch)),
        ] {
            let record = self.pending("1");
            let quotas = Quotas::default();
            let inserted =
                self.microvms.insert_microvm(&record, None, None, Some(token), &quotas).await.unwrap();
            let is_there = self.microvms.microvm(&record.id).await.unwrap().is_some();
            assert_eq!(is_there, expected == InsertedMicrovm::Inserted);
            assert_eq!(inserted, expected);
        }
    }

    async fn a_stale_writer_gets_the_record_back(&self) {
        let was = self.inserted("1").await;
        let to = was.entering(Phase::Running);
        assert_eq!(self.change(&was, &to).await, Written::Yes);
        let late = was.entering(Phase::Terminating);
        assert_eq!(self.change(&was, &late).await, Written::Stale(Some(Box::new(to.clone()))));
        assert_eq!(self.read(&was).await, to);
        let unknown = self.pending("1");
        assert_eq!(self.change(&unknown, &unknown.entering(Phase::Running)).await, Written::Stale(None));
    }

    async fn who_takes_over_shuts_the_former_owner_out(&self) {
        let was = self.inserted("1").await;
        for node in ["b", "a", "a"] {
            let former = self.read(&was).await;
            let mut claimed = former.entering(former.phase);
            claimed.owner = former.owner.succeeded_by(NodeId::from_stored(node));
            assert_eq!(self.change(&former, &claimed).await, Written::Yes);
            // Even if it knows the generation.
            let mut blind = claimed.entering(Phase::Running);
            blind.owner = former.owner.clone();
            let seen = MicrovmRecord { owner: former.owner, ..claimed.clone() };
            assert_eq!(self.change(&seen, &blind).await, Written::Stale(Some(Box::new(claimed))));
        }
        assert_eq!(self.read(&was).await.owner, Owner { node: NodeId::from_stored("a"), epoch: 4 });
    }

    async fn of_many_writers_one_wins_each_time(&self) {
        let was = self.inserted("1").await;
        let won = futures::future::join_all((0..20).map(|number| {
            let (was, subject) = (was.clone(), self);
            async move {
                let mut to = was.entering(Phase::Running);
                to.reason = Some(Reason::AppEnded { code: number });
                (subject.change(&was, &to).await == Written::Yes).then_some(to)
            }
        }))
        .await;
        let won: Vec<_> = won.into_iter().flatten().collect();
        assert_eq!(won, [self.read(&was).await]);
    }

    async fn a_payload_stays_until_the_app_has_been_told(&self) {
        let (was, sealed) = (self.pending("1"), Some(&b"sealed"[..]));
        let quotas = Quotas::default();
        let inserted = self.microvms.insert_microvm(&was, sealed, None, None, &quotas).await.unwrap();
        assert_eq!(inserted, InsertedMicrovm::Inserted);
        let calling = was.entering(Phase::RunHook);
        assert_eq!(self.change(&was, &calling).await, Written::Yes);
        self.microvms.sync().await.unwrap();
        let payload = async || self.microvms.payload(&was.id).await.unwrap();
        assert_eq!(payload().await.as_deref(), sealed);
        assert_eq!(self.change(&calling, &calling.entering(Phase::Running)).await, Written::Yes);
        assert_eq!(payload().await, None);
        self.microvms.put_payload(&was.id, b"again").await.unwrap();
        assert_eq!(payload().await.as_deref(), Some(&b"again"[..]));
        let refused = MicrovmRecord { image_version: ImageVersion(9_999), ..self.pending("1") };
        self.microvms.insert_microvm(&refused, sealed, None, None, &quotas).await.unwrap();
        assert_eq!(self.microvms.payload(&refused.id).await.unwrap(), None);
    }

    async fn revocations_are_counted_beside_other_changes(&self) {
        let was = self.inserted("1").await;
        let actor = Actor { principal: "p".to_owned(), request_id: "r".to_owned() };
        let version = async || self.shared.versions().await.unwrap().revocations;
        let before = version().await;
        assert_eq!(self.microvms.revoke_tokens(&was.id, &actor).await.unwrap(), Some(1));
        assert!(version().await > before);
        let to = was.entering(Phase::Running);
        assert_eq!(self.change(&was, &to).await, Written::Yes);
        assert_eq!(self.microvms.revoke_tokens(&was.id, &actor).await.unwrap(), Some(2));
        assert_eq!(self.read(&was).await.token_revocations, 2);
        assert!(self.microvms.token_revocations().await.unwrap().contains(&(was.id, 2)));
        assert_eq!(self.microvms.revoke_tokens(&self.pending("1").id, &actor).await.unwrap(), None);
    }

    async fn pages_are_behind_one_another(&self) {
        let mut expected = Vec::new();
        for _ in 0..7 {
            expected.push(self.inserted("2").await);
        }
        self.inserted("3").await;
        expected.sort_by_key(|record| (-record.started_at.as_millis(), record.id.clone()));
        let filter =
            MicrovmFilter { account: AccountId::from_stored("2"), image_arn: None, image_version: None };
        let mut found = Vec::new();
        loop {
            let last: Option<&crate::MicrovmSummary> = found.last();
            let after = last.map(|last| (last.started_at, &last.id));
            let page = self.microvms.microvms(&filter, after, 3).await.unwrap();
            assert!(page.len() <= 3);
            if page.is_empty() {
                break;
            }
            found.extend(page);
        }
        let found: Vec<_> = found.into_iter().map(|summary| summary.id).collect();
        let expected: Vec<_> = expected.into_iter().map(|record| record.id).collect();
        assert_eq!(found, expected);
    }

    async fn what_ended_long_ago_goes(&self) {
        let (old, new, alive) =
            (self.inserted("1").await, self.inserted("1").await, self.inserted("1").await);
        for (record, at) in [(&old, 1000), (&new, 3000)] {
            let mut ended = record.entering(Phase::Terminated);
            ended.terminated_at = Some(Timestamp::from_millis(at));
            assert_eq!(self.change(record, &ended).await, Written::Yes);
        }
        while self.microvms.sweep_ended_microvms(Timestamp::from_millis(2000)).await.unwrap() {}
        assert_eq!(self.microvms.microvm(&old.id).await.unwrap(), None);
        self.read(&new).await;
        self.read(&alive).await;
    }
}
