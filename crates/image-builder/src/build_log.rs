//! Where build output goes: one stream for the Dockerfile's build, one for the app until its snapshot.

use hearth_api::{BuildId, CloudWatchLogging, ImageArn, ImageVersion, Logging, Timestamp};
use hearth_store::Store;

/// A log stream of a build; lines appear in it as they come.
#[derive(Debug)]
pub(crate) struct BuildLog {
    store: Store,
    destination: Option<(String, String)>,
    partial: String,
}

/// Which part of a build writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// The Dockerfile's instructions.
    Build,
    /// The app in the snapshot microVM.
    Snapshot,
}

impl BuildLog {
    pub(crate) fn new(
        store: &Store,
        logging: Option<&Logging>,
        (arn, version, build): (&ImageArn, ImageVersion, &BuildId),
        phase: Phase,
    ) -> Self {
        let wanted = match logging {
            Some(Logging::Disabled {}) => None,
            Some(Logging::CloudWatch(wanted)) => Some(wanted.clone()),
            None => Some(CloudWatchLogging::default()),
        };
        let destination = wanted.map(|wanted| {
            let phase = match phase {
                Phase::Build => "build",
                Phase::Snapshot => "snapshot",
            };
            let day = jiff::Timestamp::now().strftime("%Y/%m/%d");
            let stream = format!("{day}[{version}]{phase}-{build}");
            (
                wanted.log_group.unwrap_or_else(|| format!("/aws/lambda-microvms/{}", arn.name)),
                wanted.log_stream.unwrap_or(stream),
            )
        });
        Self { store: store.clone(), destination, partial: String::new() }
    }

    /// Writes the complete lines of `text`, keeping the rest for the next call.
    pub(crate) async fn write(&mut self, text: &str) {
        self.partial.push_str(text);
        if let Some(end) = self.partial.rfind('\n') {
            let rest = self.partial.split_off(end + 1);
            let lines = std::mem::replace(&mut self.partial, rest);
            self.store(lines.lines()).await;
        }
    }

    /// Writes a line of our own, and whatever was left incomplete before it.
    pub(crate) async fn line(&mut self, text: &str) {
        let rest = std::mem::take(&mut self.partial);
        self.store(Some(rest.as_str()).filter(|rest| !rest.is_empty()).into_iter().chain([text])).await;
    }

    async fn store(&self, lines: impl IntoIterator<Item = &str>) {
        let Some((group, stream)) = &self.destination else { return };
        let now = Timestamp::now();
        let lines: Vec<_> = lines.into_iter().map(|line| (now, line.to_owned())).collect();
        if let Err(error) = self.store.append_log(group, stream, &lines).await {
            tracing::error!(%error, group, stream, "build output could not be stored");
        }
    }
}
