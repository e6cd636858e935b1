//! Where build output goes: one stream for the Dockerfile's build, one for the app until its
//! snapshot, one for the clone that validates it.

use std::sync::Arc;

use hearth_api::{BuildId, ImageArn, ImageConfiguration, ImageVersion};
use hearth_log_writer::{LineBuffer, LogWriter};
use hearth_records::{LogDestination, Logs, WrittenFor};

use crate::failure::BuildFailure;

/// A log stream of a build; lines appear in it as they come.
#[derive(Debug)]
pub(crate) struct BuildLog {
    /// `None` when logging is disabled.
    writer: Option<LogWriter>,
    buffer: LineBuffer,
}

/// Which part of a build writes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// The Dockerfile's instructions.
    Build,
    /// The app in the snapshot microVM.
    Snapshot,
    /// The app in the clone that is asked whether the snapshot is fit for use.
    Validate,
}

impl BuildLog {
    pub(crate) fn new(
        logs: Arc<dyn Logs>,
        configuration: Option<&ImageConfiguration>,
        (arn, version, build): (&ImageArn, ImageVersion, &BuildId),
        phase: Phase,
    ) -> Self {
        let phase = match phase {
            Phase::Build => "build",
            Phase::Snapshot => "snapshot",
            Phase::Validate => "validate",
        };
        let day = jiff::Timestamp::now().strftime("%Y/%m/%d");
        let stream = format!("{day}[{version}]{phase}-{build}");
        let logging = configuration.and_then(|configuration| configuration.logging.as_ref());
        // What the request names is written on behalf of the build role ("Monitoring MicroVMs").
        let written_for = || match configuration {
            Some(configuration) => WrittenFor::Role(configuration.build_role_arn.clone()),
            None => WrittenFor::Nobody,
        };
        let destination = LogDestination::new(logging, arn.account.clone(), arn, stream, written_for);
        let writer = destination.map(|destination| LogWriter::start(logs, destination));
        Self { writer, buffer: LineBuffer::default() }
    }

    /// Queues the complete lines of `text`, keeping the rest for the next call. When it is
    /// cancelled, nothing of `text` was taken.
    pub(crate) async fn write(&mut self, text: &str) {
        if let Some(writer) = &self.writer
            && let Some(room) = writer.room().await
        {
            room.send(self.buffer.push(text));
        }
    }

    /// Writes a line of our own, and whatever was left incomplete before it. Everything is
    /// stored when it returns.
    pub(crate) async fn line(&mut self, text: &str) {
        if let Some(writer) = &self.writer
            && let Some(room) = writer.room().await
        {
            room.send(self.buffer.take().into_iter().chain([text.to_owned()]).collect());
            writer.flush().await;
        }
    }

    /// Writes how a phase ended, if it failed, and passes that on. Everything is
    /// stored when it returns.
    pub(crate) async fn end<T>(mut self, result: Result<T, BuildFailure>) -> Result<T, BuildFailure> {
        match &result {
            Ok(_) => self.finish().await,
            Err(failure) => self.line(&failure.to_string()).await,
        }
        result
    }

    /// Writes what was left incomplete. Everything is stored when it returns.
    async fn finish(&mut self) {
        if let Some(writer) = &self.writer
            && let Some(room) = writer.room().await
        {
            room.send(self.buffer.take().into_iter().collect());
            writer.flush().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hearth_api::AccountId;
    use hearth_records::{EventOrder, LogPosition, LogQuery};
    use hearth_store_sqlite::Store;

    use super::*;

    #[tokio::test]
    async fn output_is_stored_in_order_for_the_account_of_the_image_also_without_an_end_of_line() {
        let store = Arc::new(Store::temporary().await.unwrap());
        let arn = ImageArn::parse("arn:aws:lambda:us-east-1:222222222222:microvm-image:app").unwrap();
        let build = BuildId::new();
        let mut log = BuildLog::new(store.clone(), None, (&arn, ImageVersion::FIRST, &build), Phase::Build);
        log.write("one\ntw").await;
        // What is cancelled before it gets room is not taken; here there is room at once.
        tokio::time::timeout(Duration::from_secs(10), log.write("o\nthree")).await.unwrap();
        log.line("of our own").await;
        log.write("last").await;
        log.finish().await;
        let account = AccountId::from_stored("222222222222");
        let query = LogQuery {
            account: &account,
            group: "/aws/lambda-microvms/app",
            stream: None,
            after: LogPosition::START,
            before: LogPosition::END,
            order: EventOrder::Oldest,
            limit: 100,
        };
        let events = store.log_events(&query).await.unwrap().unwrap().events;
        let messages: Vec<_> = events.iter().map(|event| event.message.as_str()).collect();
        assert_eq!(messages, ["one", "two", "three", "of our own", "last"]);
        assert!(events[0].stream.ends_with(&format!("[1.0]build-{build}")));
    }
}
