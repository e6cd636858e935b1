//! Network connectors and their versions, and the states that follow from them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use hearth_api::{
    AccountId, NetworkConnectorArn, NetworkConnectorConfiguration, NetworkConnectorState,
    NetworkConnectorUpdateStatus, NetworkConnectorVersion, Timestamp,
};

use hearth_egress_policy::RuleText;

use crate::error::Result;
use crate::events::{Actor, NewEvent, Origin, Resource, What};
use crate::owner::Written;
use crate::quotas::{Quota, Quotas};
use crate::tokens::{ClientToken, TokenClaim};

/// A network connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConnectorRecord {
    /// ARN without a version: the key.
    pub arn: NetworkConnectorArn,
    /// Counts the changes of this record and of its versions, but for its tags.
    pub generation: u64,
    /// Name.
    pub name: String,
    /// Tags.
    pub tags: BTreeMap<String, String>,
    /// Last change.
    pub modified_at: Timestamp,
    /// When it becomes ACTIVE.
    pub active_at: Timestamp,
    /// What the last update did, if there was one.
    pub updated: Option<ConnectorUpdate>,
    /// When it is gone, if it is deleted.
    pub gone_at: Option<Timestamp>,
    /// What microVMs may reach by it, if it is an egress policy. Without, it leads nowhere.
    pub egress_rules: Option<Vec<RuleText>>,
    /// Newest version that is ACTIVE: what an unqualified reference means. Only
    /// read, never written.
    pub latest_active: Option<NetworkConnectorVersion>,
    /// Newest version.
    pub latest: NetworkConnectorVersionRecord,
}

/// A version of a network connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkConnectorVersionRecord {
    /// Connector: an ARN without a version.
    pub arn: NetworkConnectorArn,
    /// Version: with `arn` the key.
    pub version: NetworkConnectorVersion,
    /// What was asked for.
    pub configuration: NetworkConnectorConfiguration,
    /// Role of the service in the account.
    pub operator_role: String,
    /// Creation.
    pub created_at: Timestamp,
    /// When it becomes ACTIVE.
    pub active_at: Timestamp,
    /// When it is gone, if it or the connector is deleted.
    pub gone_at: Option<Timestamp>,
}

/// What an update did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectorUpdate {
    /// It made the latest version.
    NewVersion,
    /// Nothing.
    NoChange,
}

impl ConnectorUpdate {
    /// Spelling in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NewVersion => "NEW_VERSION",
            Self::NoChange => "NO_CHANGE",
        }
    }

    /// Reads the spelling of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::NewVersion, Self::NoChange].into_iter().find(|update| update.as_str() == text)
    }
}

impl NetworkConnectorRecord {
    /// A connector that is new, with its first version: what was asked for, and the service's role.
    /// It has neither tags nor rules.
    pub fn first(
        arn: NetworkConnectorArn,
        name: String,
        (configuration, operator_role): (NetworkConnectorConfiguration, String),
        now: Timestamp,
        active_at: Timestamp,
    ) -> Self {
        let (created_at, gone_at) = (now, None);
        let latest = NetworkConnectorVersionRecord {
            arn: arn.clone(),
            version: 1,
            configuration,
            operator_role,
            created_at,
            active_at,
            gone_at,
        };
        Self {
            arn,
            generation: 0,
            name,
            tags: BTreeMap::new(),
            modified_at: now,
            active_at,
            updated: None,
            gone_at,
            egress_rules: None,
            latest_active: None,
            latest,
        }
    }

    /// Its state at this time.
    pub fn state(&self, now: Timestamp) -> NetworkConnectorState {
        state(self.active_at, self.gone_at, now)
    }

    /// Whether it is there no more.
    pub fn is_gone(&self, now: Timestamp) -> bool {
        self.gone_at.is_some_and(|gone_at| gone_at <= now)
    }

    /// How far the last update is, if there was one.
    pub fn update_status(&self, now: Timestamp) -> Option<NetworkConnectorUpdateStatus> {
        self.updated.map(|_| {
            if self.latest.active_at > now {
                NetworkConnectorUpdateStatus::InProgress
            } else {
                NetworkConnectorUpdateStatus::Successful
            }
        })
    }
}

/// The events of changes. Nothing is written when time passes, so what a change leads to by itself
/// is told together with it: the time of such an event is when it will be so.
impl NetworkConnectorRecord {
    /// It is there, and ACTIVE soon.
    pub fn appeared(&self, actor: Option<&Actor>, now: Timestamp) -> Vec<NewEvent> {
        let (first, active) = (self.state(now).as_str(), NetworkConnectorState::Active.as_str());
        let mut events = vec![self.event((What::State, None, Some(first.into())), actor, now)];
        if self.state(now) == NetworkConnectorState::Pending {
            let change = (What::State, Some(first.into()), Some(active.into()));
            events.push(self.event(change, actor, self.active_at));
        }
        events
    }

    /// It has another latest version than it had, or still the same; or other rules.
    pub fn updated_from(&self, was: &Self, actor: Option<&Actor>, now: Timestamp) -> NewEvent {
        if self.egress_rules != was.egress_rules {
            let [was, is] = [was, self].map(|record| {
                let count = |rules: &Vec<RuleText>| Cow::from(rules.len().to_string());
                record.egress_rules.as_ref().map(count)
            });
            return self.event((What::Rules, was, is), actor, now);
        }
        let [was, is] = [was, self].map(|record| Some(record.latest.version.to_string().into()));
        self.event((What::Version, was, is), actor, now)
    }

    /// It is deleted, and gone soon.
    pub fn deleted(&self, actor: Option<&Actor>, now: Timestamp, gone_at: Timestamp) -> [NewEvent; 2] {
        let (was, deleting) = (self.state(now).as_str(), NetworkConnectorState::Deleting.as_str());
        [
            self.event((What::State, Some(was.into()), Some(deleting.into())), actor, now),
            self.event((What::State, Some(deleting.into()), None), actor, gone_at),
        ]
    }

    /// One of its versions is deleted, and gone soon.
    pub fn version_deleted(
        &self,
        version: NetworkConnectorVersion,
        actor: Option<&Actor>,
        gone_at: Timestamp,
    ) -> NewEvent {
        self.event((What::Version, Some(version.to_string().into()), None), actor, gone_at)
    }

    fn event(&self, (what, from, to): WhatFromTo, actor: Option<&Actor>, at: Timestamp) -> NewEvent {
        NewEvent {
            at,
            account: self.arn.account.clone(),
            resource: Resource::NetworkConnector(self.arn.clone()),
            what,
            from,
            to,
            reason: None,
            origin: Origin::api(actor.cloned()),
        }
    }
}

type WhatFromTo = (What, Option<Cow<'static, str>>, Option<Cow<'static, str>>);

impl NetworkConnectorVersionRecord {
    /// Its state at this time.
    pub fn state(&self, now: Timestamp) -> NetworkConnectorState {
        state(self.active_at, self.gone_at, now)
    }

    /// Whether it is there no more.
    pub fn is_gone(&self, now: Timestamp) -> bool {
        self.gone_at.is_some_and(|gone_at| gone_at <= now)
    }
}

fn state(active_at: Timestamp, gone_at: Option<Timestamp>, now: Timestamp) -> NetworkConnectorState {
    if gone_at.is_some() {
        NetworkConnectorState::Deleting
    } else if active_at > now {
        NetworkConnectorState::Pending
    } else {
        NetworkConnectorState::Active
    }
}

/// What became of a new network connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InsertedNetworkConnector {
    /// The rows are there.
    Inserted,
    /// The account has a connector of that name.
    NameTaken,
    /// The account has as much as it may have.
    QuotaExceeded(Quota),
    /// The client token was used before.
    Token(TokenClaim),
}

/// What became of an update of a network connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpdatedNetworkConnector {
    /// The rows are written, or the connector is no longer what it was.
    Written(Written<NetworkConnectorRecord>),
    /// The connector has as many versions as it may have.
    QuotaExceeded(Quota),
    /// The client token was used before.
    Token(TokenClaim),
}

/// What became of a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeletedNetworkConnector {
    /// It will be gone, or the connector is no longer what it was.
    Written(Written<NetworkConnectorRecord>),
    /// A microVM that has not ended or an image version refers to it.
    InUse,
}

/// Which connector is meant.
#[derive(Debug, Clone)]
pub struct NetworkConnectorKey<'a> {
    /// The one with this (unqualified) ARN, even if it is gone.
    pub arn: &'a NetworkConnectorArn,
    /// Else the one of the ARN's account with this name that is not gone.
    pub name: Option<&'a str>,
}

/// A page of a list.
#[derive(Debug, Clone, Copy)]
pub struct ConnectorPage<K> {
    /// Key of the last item of the page before.
    pub after: Option<K>,
    /// Only items in this state.
    pub state: Option<NetworkConnectorState>,
    /// Most items.
    pub limit: u32,
    /// Time that it is.
    pub now: Timestamp,
}

/// What microVMs may reach by network connectors.
#[async_trait]
pub trait EgressRules: Send + Sync + fmt::Debug {
    /// The rules of a connector; `None` if it has none, or is not there.
    async fn egress_rules(&self, arn: &NetworkConnectorArn, now: Timestamp) -> Result<Option<Vec<RuleText>>>;
}

/// Network connectors, as they are kept.
#[async_trait]
pub trait Connectors: Send + Sync + fmt::Debug {
    /// Records a new connector with its first version, together with its client token and its
    /// events.
    async fn insert_network_connector(
        &self,
        connector: &NetworkConnectorRecord,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Result<InsertedNetworkConnector>;

    /// One connector.
    async fn network_connector(
        &self,
        key: &NetworkConnectorKey<'_>,
        now: Timestamp,
    ) -> Result<Option<NetworkConnectorRecord>>;

    /// Connectors of an account that are not gone, by name.
    async fn network_connectors(
        &self,
        account: &AccountId,
        page: &ConnectorPage<&str>,
    ) -> Result<Vec<NetworkConnectorRecord>>;

    /// One version of a connector, even if it is gone.
    async fn network_connector_version(
        &self,
        arn: &NetworkConnectorArn,
        version: NetworkConnectorVersion,
    ) -> Result<Option<NetworkConnectorVersionRecord>>;

    /// Versions of a connector that are not gone, newest first.
    async fn network_connector_versions(
        &self,
        arn: &NetworkConnectorArn,
        page: &ConnectorPage<NetworkConnectorVersion>,
    ) -> Result<Vec<NetworkConnectorVersionRecord>>;

    /// Writes the members of a connector that an update changes, and its latest version if that is
    /// a new one, together with the event, if the connector still is what it `was`.
    async fn update_network_connector(
        &self,
        was: &NetworkConnectorRecord,
        to: &NetworkConnectorRecord,
        actor: Option<&Actor>,
        token: Option<ClientToken>,
        now: Timestamp,
        quotas: &Quotas,
    ) -> Result<UpdatedNetworkConnector>;

    /// Lets a connector and its versions, or that version alone, be gone at `gone_at`, unless
    /// somebody refers to it, if the connector still is what it `was`. One that is to be gone
    /// already stays as it is.
    async fn delete_network_connector(
        &self,
        was: &NetworkConnectorRecord,
        version: Option<NetworkConnectorVersion>,
        actor: Option<&Actor>,
        now: Timestamp,
        gone_at: Timestamp,
    ) -> Result<DeletedNetworkConnector>;

    /// Removes up to a thousand connectors, and as many versions, that were gone before a moment.
    /// True when there may be more.
    async fn sweep_network_connectors(&self, before: Timestamp) -> Result<bool>;
}
