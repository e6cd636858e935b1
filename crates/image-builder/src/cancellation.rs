//! Builds that are under way, and ending those of an image that is deleted.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hearth_api::{BuildId, ImageArn};
use hearth_records::Origin;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::failure::{BuildFailure, FailureCode};

/// The builds under way.
#[derive(Debug)]
pub(crate) struct Builds {
    stopped: CancellationToken,
    running: Mutex<BTreeMap<BuildId, Running>>,
}

#[derive(Debug)]
struct Running {
    arn: ImageArn,
    token: CancellationToken,
    /// What its image was deleted by.
    cancelled_by: Option<Origin>,
    /// Closed when the build has ended.
    ended: watch::Sender<()>,
}

/// Takes a build off the list when it is dropped.
#[derive(Debug)]
pub(crate) struct Listed<'a> {
    builds: &'a Builds,
    id: BuildId,
    /// Cancelled when the build has to end.
    pub(crate) token: CancellationToken,
}

impl Builds {
    /// None yet; all end when `stopped` is cancelled.
    pub(crate) fn new(stopped: CancellationToken) -> Self {
        Self { stopped, running: Mutex::default() }
    }

    /// Lists a build for as long as the answer lives.
    pub(crate) fn list(&self, arn: &ImageArn, id: &BuildId) -> Listed<'_> {
        let token = self.stopped.child_token();
        let ended = watch::Sender::new(());
        let running = Running { arn: arn.clone(), token: token.clone(), cancelled_by: None, ended };
        self.running().insert(id.clone(), running);
        Listed { builds: self, id: id.clone(), token }
    }

    /// What is cancelled when this build has to end.
    pub(crate) fn token(&self, id: &BuildId) -> CancellationToken {
        self.running().get(id).map_or_else(|| self.stopped.clone(), |running| running.token.clone())
    }

    /// Ends the builds of an image, and waits until they have ended. Returns whether
    /// there were any.
    pub(crate) async fn cancel(&self, arn: &ImageArn, origin: &Origin) -> bool {
        let ended: Vec<_> = {
            let mut running = self.running();
            let of_image = running.values_mut().filter(|running| running.arn == *arn);
            of_image
                .map(|running| {
                    running.token.cancel();
                    running.cancelled_by.get_or_insert_with(|| origin.clone());
                    running.ended.subscribe()
                })
                .collect()
        };
        let any = !ended.is_empty();
        for mut ended in ended {
            // An error says that the build has ended.
            while ended.changed().await.is_ok() {}
        }
        any
    }

    /// The failure of a build whose token was cancelled: by the deletion of its image, or else by
    /// the end of the service, which also a build that somebody else has claimed is put down to.
    pub(crate) fn failure(&self, id: &BuildId) -> BuildFailure {
        if self.running().get(id).is_some_and(|running| running.cancelled_by.is_some()) {
            return BuildFailure::new(FailureCode::Deleted, "The image was deleted during its build.");
        }
        crate::build_guest::stopped_failure()
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<BuildId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listed<'_> {
    /// What the build's image was deleted by, if it was.
    pub(crate) fn cancelled_by(&self) -> Option<Origin> {
        self.builds.running().get(&self.id)?.cancelled_by.clone()
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.builds.running().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[tokio::test]
    async fn a_deletion_ends_the_builds_of_its_image_and_no_others() {
        let builds = Arc::new(Builds::new(CancellationToken::new()));
        let arn = |name: &str| {
            ImageArn::parse(&format!("arn:aws:lambda:us-east-1:222222222222:microvm-image:{name}")).unwrap()
        };
        let others = BuildId::new();
        let other = builds.list(&arn("other"), &others);
        let build = {
            let builds = builds.clone();
            tokio::spawn(async move {
                let id = BuildId::new();
                let listed = builds.list(&arn("own"), &id);
                builds.token(&id).cancelled().await;
                let failure = builds.failure(&id);
                drop(listed);
                failure
            })
        };
        while builds.running().len() < 2 {
            tokio::task::yield_now().await;
        }
        let origin = Origin::api(None);
        assert!(builds.cancel(&arn("own"), &origin).await);
        assert!(build.await.unwrap().message.contains("deleted"));
        assert!(!builds.cancel(&arn("own"), &origin).await);
        assert!(!other.token.is_cancelled());
        builds.stopped.cancel();
        assert!(other.token.is_cancelled());
        assert!(builds.failure(&others).message.contains("stopped"));
    }
}
