//! MicroVMs.

use std::fmt;

use async_trait::async_trait;
use hearth_api::{
    AccountId, EndpointLabel, IdlePolicy, ImageArn, ImageVersion, Logging, MicrovmId, MicrovmState, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::events::{Actor, NewEvent, Origin, Resource, What};
use crate::logs::{Author, LogDestination, WrittenFor};
use crate::owner::{NodeId, Owner, Written};
use crate::phase::Phase;
use crate::quotas::{Quota, Quotas};
use crate::reason::Reason;
use crate::size::Size;
use crate::tokens::{ClientToken, TokenClaim};

/// A microVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MicrovmRecord {
    /// Id: the key.
    pub id: MicrovmId,
    /// Owner.
    pub account: AccountId,
    /// Image.
    pub image_arn: ImageArn,
    /// Version that was launched.
    pub image_version: ImageVersion,
    /// Public state.
    pub state: MicrovmState,
    /// Where it is in its life. A step of it may be on its way to another end already, which the
    /// state shows.
    pub phase: Phase,
    /// Counts the changes of this record.
    pub generation: u64,
    /// Who drives it.
    pub owner: Owner,
    /// Why it is in this state, where that needs saying.
    pub reason: Option<Reason>,
    /// First label of the endpoint's host name.
    pub endpoint_label: EndpointLabel,
    /// Start, set at creation.
    pub started_at: Timestamp,
    /// When it became SUSPENDED, while it is.
    pub suspended_at: Option<Timestamp>,
    /// End.
    pub terminated_at: Option<Timestamp>,
    /// What the caller of RunMicrovm fixed.
    pub settings: MicrovmSettings,
    /// How many times the tokens of its endpoint have been revoked.
    pub token_revocations: u64,
    /// The newest of its own snapshots from which its guest has gone on with no way back, by
    /// number; 0 before there is one. Memory and disk fit each other when its files hold a later
    /// one.
    pub spent: u32,
}

/// What lists show of a microVM.
#[derive(Debug, Clone)]
pub struct MicrovmSummary {
    /// Id: the key.
    pub id: MicrovmId,
    /// Image.
    pub image_arn: ImageArn,
    /// Version that was launched.
    pub image_version: ImageVersion,
    /// Public state.
    pub state: MicrovmState,
    /// Start.
    pub started_at: Timestamp,
}

impl MicrovmRecord {
    /// Where the app's output goes, or nothing when logging is disabled. A group or stream of the
    /// caller's choice is written on behalf of the execution role, as on the service ("Monitoring
    /// MicroVMs"), and without one on the caller's.
    pub fn log_destination(&self) -> Option<LogDestination> {
        let day = self.started_at.0.strftime("%Y/%m/%d");
        let stream = format!("{day}[{}]{}", self.image_version, self.id);
        let settings = &self.settings;
        let written_for = || match (&settings.execution_role_arn, &settings.run_by) {
            (Some(role), _) => WrittenFor::Role(role.clone()),
            (None, Some(author)) => WrittenFor::Author(author.clone()),
            (None, None) => WrittenFor::Nobody,
        };
        let logging = settings.logging.as_ref();
        LogDestination::new(logging, self.account.clone(), &self.image_arn, stream, written_for)
    }

    /// `stateReason`, in English.
    pub fn state_reason(&self) -> Option<String> {
        self.reason.as_ref().map(ToString::to_string)
    }

    /// What lists show of it.
    pub fn summary(&self) -> MicrovmSummary {
        MicrovmSummary {
            id: self.id.clone(),
            image_arn: self.image_arn.clone(),
            image_version: self.image_version,
            state: self.state,
            started_at: self.started_at,
        }
    }

    /// What it becomes with a change that brings it into this phase.
    #[must_use]
    pub fn entering(&self, phase: Phase) -> Self {
        Self { generation: self.generation + 1, phase, state: phase.public_state(), ..self.clone() }
    }

    /// Whether the change from `was` to this ends its first start: the app has been told what its
    /// run hook was to tell it, or never will be.
    pub fn ends_first_start(&self, was: &Self) -> bool {
        was.phase.is_first_start() && !self.phase.is_first_start()
    }

    /// The event of the change from `was` to this.
    pub fn changed_from(&self, was: &Self, origin: Origin, at: Timestamp) -> NewEvent {
        let (what, from, to) = if self.owner == was.owner {
            (What::State, was.phase.as_str().into(), self.phase.as_str().into())
        } else {
            (What::Owner, was.owner.node.to_string().into(), self.owner.node.to_string().into())
        };
        NewEvent { what, from: Some(from), to: Some(to), ..self.appeared(origin, at) }
    }

    /// The event of its tokens being revoked so many times.
    pub fn revoked(&self, times: u64, actor: &Actor, at: Timestamp) -> NewEvent {
        NewEvent {
            what: What::Tokens,
            from: Some((times - 1).to_string().into()),
            to: Some(times.to_string().into()),
            reason: None,
            ..self.appeared(Origin::api(Some(actor.clone())), at)
        }
    }

    /// The event of its being there.
    pub fn appeared(&self, origin: Origin, at: Timestamp) -> NewEvent {
        NewEvent {
            at,
            account: self.account.clone(),
            resource: Resource::Microvm(self.id.clone(), self.image_arn.clone()),
            what: What::State,
            from: None,
            to: Some(self.phase.as_str().into()),
            reason: self.reason.clone(),
            origin,
        }
    }

    /// A new microVM of this node: PENDING, started now, with an id and an endpoint of its own.
    pub fn pending(
        account: AccountId,
        image_arn: ImageArn,
        image_version: ImageVersion,
        settings: MicrovmSettings,
        node: NodeId,
    ) -> Self {
        Self {
            id: MicrovmId::new(),
            account,
            image_arn,
            image_version,
            state: MicrovmState::Pending,
            phase: Phase::Launching,
            generation: 0,
            owner: Owner::first(node),
            reason: None,
            endpoint_label: EndpointLabel::new(),
            started_at: Timestamp::now(),
            suspended_at: None,
            terminated_at: None,
            settings,
            token_revocations: 0,
            spent: 0,
        }
    }
}

/// What the caller of RunMicrovm fixed for the microVM's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MicrovmSettings {
    /// Baseline memory in MiB, which counts for the quota; rows of before there were
    /// quotas have the default.
    #[serde(default = "default_memory_mib")]
    pub minimum_memory_mib: u32,
    /// Role of the app.
    pub execution_role_arn: Option<String>,
    /// Idle policy.
    pub idle_policy: Option<IdlePolicy>,
    /// Seconds from `started_at` to the end.
    pub maximum_duration_in_seconds: u32,
    /// Where the app's output goes.
    pub logging: Option<Logging>,
    /// Ingress connectors (ARNs).
    pub ingress_network_connectors: Vec<String>,
    /// Egress connectors (ARNs).
    pub egress_network_connectors: Vec<String>,
    /// Who ran it, where output goes to a group or stream of the caller's choice and
    /// no role is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_by: Option<Author>,
}

fn default_memory_mib() -> u32 {
    Size::DEFAULT_MEMORY_MIB
}

/// Which microVMs to list.
#[derive(Debug, Clone)]
pub struct MicrovmFilter {
    /// Owner.
    pub account: AccountId,
    /// Only of this image.
    pub image_arn: Option<ImageArn>,
    /// Only of this version.
    pub image_version: Option<ImageVersion>,
}

/// What became of a new microVM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertedMicrovm {
    /// The row is there.
    Inserted,
    /// The version may not be launched any more.
    VersionGone,
    /// The account has as much as it may have.
    QuotaExceeded(Quota),
    /// The client token was used before.
    Token(TokenClaim),
}

/// MicroVMs, as they are kept.
#[async_trait]
pub trait Microvms: Send + Sync + fmt::Debug {
    /// Records a new microVM together with its client token and the payload of its run hook, which
    /// comes sealed; the row is written only when the token is fresh and the version can still be
    /// launched.
    async fn insert_microvm(
        &self,
        record: &MicrovmRecord,
        payload: Option<&[u8]>,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        quotas: &Quotas,
    ) -> Result<InsertedMicrovm>;

    /// Goes up with every change of any microVM: what was read after this was asked is as it is in
    /// the database for as long as this gives the same number.
    fn microvm_changes(&self) -> u64;

    /// Writes the members of a microVM that change during its life, together with the event of the
    /// change, if the record still is what it `was`: of that generation, and of that owner. One
    /// that has been told what its run hook was to tell it loses the payload with that.
    ///
    /// What runs does not survive a power failure, so that its record need not: such changes are on
    /// the disk some time later, unless that is why there is one ([`MicrovmRecord::spent`]).
    async fn change_microvm(
        &self,
        was: &MicrovmRecord,
        to: &MicrovmRecord,
        origin: &Origin,
    ) -> Result<Written<MicrovmRecord>>;

    /// Every change that was made before this was asked is on the disk when it returns.
    async fn sync(&self) -> Result<()>;

    /// Puts down the sealed payload of a run hook that is recorded elsewhere. It is on the disk
    /// when this returns.
    async fn put_payload(&self, id: &MicrovmId, sealed: &[u8]) -> Result<()>;

    /// The sealed payload of a run hook, until the app has been told.
    async fn payload(&self, id: &MicrovmId) -> Result<Option<Vec<u8>>>;

    /// Counts a revocation of the tokens of a microVM; how many there have been then, `None`
    /// without such a microVM. It is on the disk when this returns.
    async fn revoke_tokens(&self, id: &MicrovmId, actor: &Actor) -> Result<Option<u64>>;

    /// How many times the tokens of each microVM have been revoked, of those that have not ended
    /// and where they have been at all.
    async fn token_revocations(&self) -> Result<Vec<(MicrovmId, u64)>>;

    /// How much of a microVM's output is in its log stream; `None` before its first line.
    async fn output_position(&self, id: &MicrovmId) -> Result<Option<u64>>;

    /// One microVM.
    async fn microvm(&self, id: &MicrovmId) -> Result<Option<MicrovmRecord>>;

    /// At most `limit` microVMs, newest first, behind the place of the one that started at `after`
    /// and has this id, whether or not it is still recorded.
    async fn microvms(
        &self,
        filter: &MicrovmFilter,
        after: Option<(Timestamp, &MicrovmId)>,
        limit: u32,
    ) -> Result<Vec<MicrovmSummary>>;

    /// Every microVM that has not ended, of all accounts and owners.
    async fn microvms_alive(&self) -> Result<Vec<MicrovmRecord>>;

    /// [`crate::Error::NoRoom`] when the disk is nearly full, and what is no record of something
    /// that has happened must not be written.
    fn check_room(&self) -> Result<()>;

    /// Removes up to a thousand microVMs that ended before a moment. True when there may be more.
    async fn sweep_ended_microvms(&self, before: Timestamp) -> Result<bool>;
}
