//! Where connections to apps lead.

use hearth_api::MicrovmId;
use hearth_node::Life;

/// A port of an app, in one life of its microVM: where a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AppPort {
    microvm: MicrovmId,
    generation: u64,
    port: u16,
}

impl AppPort {
    pub(crate) fn new<L: Life>(running: &L, port: u16) -> Self {
        Self { microvm: running.id().clone(), generation: running.generation(), port }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The port in whatever life: no microVM reaches the generation that stands for it.
    pub(crate) fn in_any_life(&self) -> Self {
        Self { generation: u64::MAX, ..self.clone() }
    }
}
