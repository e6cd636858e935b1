//! MicroVMs on the wire.

use serde::{Deserialize, Serialize};

/// Public state of a microVM (`MicrovmState` of the model).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MicrovmState {
    /// Being launched.
    Pending,
    /// Answers at its endpoint.
    Running,
    /// Being written to disk.
    Suspending,
    /// On disk: no process, no RAM.
    Suspended,
    /// Being released.
    Terminating,
    /// Gone; the record stays.
    Terminated,
}

impl MicrovmState {
    /// Spelling on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Running => "RUNNING",
            Self::Suspending => "SUSPENDING",
            Self::Suspended => "SUSPENDED",
            Self::Terminating => "TERMINATING",
            Self::Terminated => "TERMINATED",
        }
    }

    /// Reads the spelling of [`Self::as_str`].
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Running, Self::Suspending, Self::Suspended, Self::Terminating, Self::Terminated]
            .into_iter()
            .find(|state| state.as_str() == text)
    }
}

/// When to suspend, and what then; all three members are required.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IdlePolicy {
    /// Seconds without a byte through the endpoint until the microVM is suspended; at least 60.
    pub max_idle_duration_seconds: u32,
    /// Seconds in SUSPENDED until the microVM is terminated; 0 terminates instead of suspending.
    pub suspended_duration_seconds: u32,
    /// Whether a request wakes a suspended microVM.
    pub auto_resume_enabled: bool,
}

/// Where logs go (`Logging` union of the model).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Logging {
    /// Nowhere.
    Disabled {},
    /// Into a log group.
    CloudWatch(CloudWatchLogging),
}

/// Log group and stream; the defaults are `/aws/lambda-microvms/<image>` and
/// `YYYY/MM/DD[<version>]<microvm id>`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloudWatchLogging {
    /// Log group.
    pub log_group: Option<String>,
    /// Log stream: an exact name that all phases share.
    pub log_stream: Option<String>,
}

/// Which ports a token opens (`PortSpecification` union of the model).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PortSpecification {
    /// One port.
    Port(u16),
    /// A range, both ends included.
    #[serde(rename_all = "camelCase")]
    Range {
        /// First port.
        start_port: u16,
        /// Last port.
        end_port: u16,
    },
    /// Every port.
    AllPorts {},
}

impl PortSpecification {
    /// Whether `port` is covered.
    pub fn contains(self, port: u16) -> bool {
        match self {
            Self::Port(only) => only == port,
            Self::Range { start_port, end_port } => (start_port..=end_port).contains(&port),
            Self::AllPorts {} => true,
        }
    }
}
