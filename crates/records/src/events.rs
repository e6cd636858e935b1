//! The outbox: every change leaves an event, written in the transaction of the change.

use std::borrow::Cow;
use std::fmt;

use async_trait::async_trait;
use hearth_api::{AccountId, BuildId, ImageArn, ImageVersion, MicrovmId, NetworkConnectorArn, Timestamp};
use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::reason::Reason;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place among all events. Who has seen an event has seen, or can see now, everything with
    /// a smaller number: nothing appears before it later.
    pub sequence: u64,
    /// The rest.
    pub event: NewEvent,
}

/// What changed, without its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// When.
    pub at: Timestamp,
    /// Whose.
    pub account: AccountId,
    /// Of what.
    pub resource: Resource,
    /// What about it.
    pub what: What,
    /// What it was; nothing when it is new.
    pub from: Option<Cow<'static, str>>,
    /// What it is; nothing when it is gone.
    pub to: Option<Cow<'static, str>>,
    /// Why it is so, where that needs saying.
    pub reason: Option<Reason>,
    /// What has set it going.
    pub origin: Origin,
}

/// What about a resource has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Its state, for a microVM its phase.
    State,
    /// Whether a version of an image may be launched.
    Status,
    /// Who drives it.
    Owner,
    /// Which tokens of its endpoint are good: how often they have been revoked.
    Tokens,
    /// Its tags: how many it has.
    Tags,
    /// Its latest version, or that one of its versions is there no more.
    Version,
    /// What its rules let microVMs reach: how many they are.
    Rules,
}

impl What {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::State, Self::Status, Self::Owner, Self::Tokens, Self::Tags, Self::Version, Self::Rules];

    /// Spelling in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::State => "STATE",
            Self::Status => "STATUS",
            Self::Owner => "OWNER",
            Self::Tokens => "TOKENS",
            Self::Tags => "TAGS",
            Self::Version => "VERSION",
            Self::Rules => "RULES",
        }
    }
}

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A microVM, and its image, on which operations are authorised.
    Microvm(MicrovmId, ImageArn),
    /// An image.
    Image(ImageArn),
    /// A version of an image.
    ImageVersion(ImageArn, ImageVersion),
    /// A build of a version.
    Build(ImageArn, ImageVersion, BuildId),
    /// A network connector.
    NetworkConnector(NetworkConnectorArn),
}

/// What has set a change going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// What kind of thing.
    pub cause: Cause,
    /// Whose request, where it was one.
    pub actor: Option<Actor>,
}

/// Who asked for a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Actor {
    /// ARN of the caller.
    pub principal: String,
    /// Id of the request.
    pub request_id: String,
}

/// What kind of thing has set a change going.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A call of the API.
    Api,
    /// A request at the endpoint of a suspended microVM.
    Traffic,
    /// No request for the idle time.
    Idle,
    /// The idle policy's time in SUSPENDED was over.
    SuspendedTooLong,
    /// The maximum duration was over.
    Lifetime,
    /// What a hook answered.
    Hook,
    /// The end of the app.
    AppExit,
    /// The end of the VMM.
    VmmExit,
    /// What a build has found.
    Build,
    /// A failure of the host or of the service, or its start.
    Host,
    /// The operator has stopped the service.
    Operator,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 11] = [
        Self::Api,
        Self::Traffic,
        Self::Idle,
        Self::SuspendedTooLong,
        Self::Lifetime,
        Self::Hook,
        Self::AppExit,
        Self::VmmExit,
        Self::Build,
        Self::Host,
        Self::Operator,
    ];

    /// Spelling in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Api => "API",
            Self::Traffic => "TRAFFIC",
            Self::Idle => "IDLE",
            Self::SuspendedTooLong => "SUSPENDED_TOO_LONG",
            Self::Lifetime => "LIFETIME",
            Self::Hook => "HOOK",
            Self::AppExit => "APP_EXIT",
            Self::VmmExit => "VMM_EXIT",
            Self::Build => "BUILD",
            Self::Host => "HOST",
            Self::Operator => "OPERATOR",
        }
    }
}

impl Origin {
    /// What nobody has asked for.
    pub fn of(cause: Cause) -> Self {
        Self { cause, actor: None }
    }

    /// What a call has asked for.
    pub fn api(actor: Option<Actor>) -> Self {
        Self { cause: Cause::Api, actor }
    }
}

/// Which events to read, the oldest first.
#[derive(Debug, Clone)]
pub struct EventQuery<'a> {
    /// Whose.
    pub account: &'a AccountId,
    /// Where they begin.
    pub start: EventStart,
    /// Only of the microVM with this id, or of the image or connector with this ARN; of an image
    /// with its versions and builds.
    pub resource: Option<&'a str>,
    /// Most events.
    pub limit: u32,
}

/// Where events begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventStart {
    /// Behind the event of this number.
    After(u64),
    /// At the last of them: as many as the limit.
    Last,
}

/// Events, as they are kept.
#[async_trait]
pub trait Events: Send + Sync + fmt::Debug {
    /// Events in their order.
    async fn events(&self, query: &EventQuery<'_>) -> Result<Vec<Event>>;

    /// The number of the newest event of all accounts, 0 before the first.
    async fn newest_event(&self) -> Result<u64>;

    /// Returns when there may be an event behind this one.
    async fn wait_for_event(&self, after: u64);

    /// Removes up to a thousand events of before a moment. True when there may be more.
    async fn sweep_events(&self, before: Timestamp) -> Result<bool>;
}

impl Resource {
    /// Kind, name, and the rest, as they are stored: the name is the id of a microVM and an ARN of
    /// anything else.
    pub fn parts(&self) -> (&'static str, String, Option<String>) {
        match self {
            Self::Microvm(id, image) => ("microvm", id.to_string(), Some(image.to_string())),
            Self::Image(arn) => ("microvm-image", arn.to_string(), None),
            Self::ImageVersion(arn, version) => {
                ("microvm-image-version", arn.to_string(), Some(version.to_string()))
            }
            Self::Build(arn, version, build) => {
                ("microvm-image-build", arn.to_string(), Some(format!("{version}/{build}")))
            }
            Self::NetworkConnector(arn) => ("network-connector", arn.to_string(), None),
        }
    }

    /// Reads what [`Self::parts`] makes.
    pub fn parse(kind: &str, name: &str, part: Option<&str>) -> Option<Self> {
        let image = || ImageArn::parse(name);
        Some(match kind {
            "microvm" => Self::Microvm(MicrovmId::from_stored(name), ImageArn::parse(part?)?),
            "microvm-image" => Self::Image(image()?),
            "microvm-image-version" => Self::ImageVersion(image()?, ImageVersion::parse(part?)?),
            "microvm-image-build" => {
                let (version, build) = part?.split_once('/')?;
                Self::Build(image()?, ImageVersion::parse(version)?, BuildId::from_stored(build))
            }
            "network-connector" => Self::NetworkConnector(NetworkConnectorArn::parse(name)?),
            _ => return None,
        })
    }
}
