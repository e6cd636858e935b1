//! The output of an app that a build watches, copied into the build's log.

use std::sync::Arc;
use std::time::Duration;

use hearth_guest_protocol::client::Replies;
use hearth_guest_protocol::{Reply, Request};
use hearth_vmm::Vm;

use crate::build_log::BuildLog;
use crate::failure::BuildFailure;

/// Copies the app's output into a build log.
pub(crate) struct AppOutput<'a> {
    log: &'a mut BuildLog,
    position: u64,
}

impl<'a> AppOutput<'a> {
    /// Of an app whose first `position` bytes of output are elsewhere already.
    pub(crate) fn new(log: &'a mut BuildLog, position: u64) -> Self {
        Self { log, position }
    }

    /// Bytes of output that were copied or are elsewhere.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Copies while `work` is done, and then what is there still.
    pub(crate) async fn copy_during<T>(
        &mut self,
        vm: &Arc<dyn Vm>,
        work: impl Future<Output = Result<T, BuildFailure>>,
    ) -> Result<T, BuildFailure> {
        let result = tokio::select! {
            result = work => result,
            error = self.copy(vm) => Err(error),
        };
        self.drain(vm).await;
        result
    }

    /// Runs until the connection breaks, which it does not while the guest lives.
    async fn copy(&mut self, vm: &Arc<dyn Vm>) -> BuildFailure {
        loop {
            let stream = match vm.connect_guest().await {
                Ok(stream) => stream,
                Err(error) => return BuildFailure::platform("reach the microVM of the build", &error),
            };
            if let Ok(mut replies) = Replies::request(stream, &Request::Output { from: self.position }).await
            {
                while let Ok(Some(reply)) = replies.next().await {
                    self.take(&reply).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Copies what is there already.
    pub(crate) async fn drain(&mut self, vm: &Arc<dyn Vm>) {
        let Ok(stream) = vm.connect_guest().await else { return };
        let Ok(mut replies) = Replies::request(stream, &Request::Output { from: self.position }).await else {
            return;
        };
        let pause = Duration::from_millis(300);
        while let Ok(Ok(Some(reply))) = tokio::time::timeout(pause, replies.next()).await {
            self.take(&reply).await;
        }
    }

    /// Writes a line of ours behind what was copied.
    pub(crate) async fn note(&mut self, text: &str) {
        self.log.line(text).await;
    }

    async fn take(&mut self, reply: &Reply) {
        if let Reply::Output { position, data, .. } = reply {
            self.log.write(data).await;
            self.position = position + data.len() as u64;
        }
    }
}
