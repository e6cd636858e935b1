//! A child that runs: its pipes, its time and its end.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitIdStatus};

use crate::Error;
use crate::limits::Limits;

/// What is kept of the child's standard error.
const SAID_BYTES: usize = 4096;

/// A child; it is killed and reaped when this is dropped.
#[derive(Debug)]
pub(crate) struct Child {
    pidfd: OwnedFd,
    reaped: bool,
}

/// Our ends of the child's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    /// Its standard input, until all is written.
    pub(crate) question: Option<File>,
    /// Its standard output, until it ends.
    pub(crate) answer: Option<File>,
    /// Its standard error, until it ends.
    pub(crate) errors: Option<File>,
}

impl Child {
    pub(crate) fn new(pidfd: OwnedFd) -> Self {
        Self { pidfd, reaped: false }
    }

    /// Asks and listens until the child has ended, its time is over, or the other end of
    /// `stopped` is closed.
    pub(crate) fn converse(
        mut self,
        question: &[u8],
        mut pipes: Pipes,
        stopped: BorrowedFd<'_>,
        limits: &Limits,
    ) -> Result<Vec<u8>, Error> {
        for pipe in [&pipes.question, &pipes.answer, &pipes.errors].into_iter().flatten() {
            rustix::fs::fcntl_setfl(pipe, OFlags::NONBLOCK).map_err(|error| Error::Watch(error.into()))?;
        }
        let deadline = Instant::now() + limits.time;
        let (mut asked, mut answer, mut said) = (0, Vec::new(), Vec::new());
        while pipes.answer.is_some() || pipes.errors.is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut { seconds: limits.time.as_secs() });
            }
            let ready = pipes.wait(stopped, left).map_err(Error::Watch)?;
            if ready.stopped {
                return Err(Error::Stopped);
            }
            let [question_ready, answer_ready, errors_ready] = ready.pipes;
            if question_ready
                && !send(&mut pipes.question, &question[asked..], &mut asked).map_err(Error::Watch)?
            {
                pipes.question = None;
            }
            if answer_ready {
                receive(&mut pipes.answer, &mut answer, limits.answer_bytes.saturating_add(1))
                    .map_err(Error::Watch)?;
                if answer.len() > limits.answer_bytes {
                    return Err(Error::Flood { bytes: limits.answer_bytes });
                }
            }
            if errors_ready {
                receive(&mut pipes.errors, &mut said, SAID_BYTES).map_err(Error::Watch)?;
            }
        }
        let status = self.reap(deadline, limits)?;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(0), _) => Ok(answer),
            (Some(status), _) => Err(Error::Failed { said: last_words(&said, status) }),
            (None, signal) => Err(Error::Killed { signal: signal.unwrap_or_default() }),
        }
    }

    /// Waits for the end of a child that has closed its pipes, which only takes long when
    /// that was all it did.
    fn reap(&mut self, deadline: Instant, limits: &Limits) -> Result<WaitIdStatus, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).map_err(|error| Error::Watch(io::Error::other(error)))?;
        let mut ended = [PollFd::new(&self.pidfd, PollFlags::IN)];
        if poll(&mut ended, Some(&timeout)).map_err(|error| Error::Watch(error.into()))? == 0 {
            return Err(Error::TimedOut { seconds: limits.time.as_secs() });
        }
        let status = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        self.reaped = true;
        status
            .map_err(io::Error::from)
            .and_then(|status| status.ok_or_else(|| io::Error::other("the child has no status")))
            .map_err(Error::Watch)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !self.reaped {
            // It may have ended by itself; then there is only its status to fetch.
            let _ = rustix::process::pidfd_send_signal(self.pidfd.as_fd(), Signal::KILL);
            let _ = rustix::process::waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

/// What can go on: whether the child is to be stopped, and which pipes are ready.
struct Ready {
    stopped: bool,
    pipes: [bool; 3],
}

impl Pipes {
    fn wait(&self, stopped: BorrowedFd<'_>, left: std::time::Duration) -> io::Result<Ready> {
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let pipes =
            [(&self.question, PollFlags::OUT), (&self.answer, PollFlags::IN), (&self.errors, PollFlags::IN)];
        let mut events = vec![PollFd::from_borrowed_fd(stopped, PollFlags::IN)];
        events.extend(pipes.iter().filter_map(|(pipe, flags)| Some(PollFd::new((*pipe).as_ref()?, *flags))));
        match poll(&mut events, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut happened = events.iter().map(|event| !event.revents().is_empty());
        let stopped = happened.next().unwrap_or_default();
        let pipes = pipes.map(|(pipe, _)| pipe.is_some() && happened.next().unwrap_or_default());
        Ok(Ready { stopped, pipes })
    }
}

/// Writes what the pipe takes; `false` when all is written or nobody reads.
fn send(pipe: &mut Option<File>, rest: &[u8], asked: &mut usize) -> io::Result<bool> {
    let Some(file) = pipe else { return Ok(false) };
    match file.write(rest) {
        Ok(count) => {
            *asked += count;
            Ok(count < rest.len())
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(true),
        // Why it has ended is told by its status.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(error),
    }
}

/// Reads what there is and keeps at most `most` bytes; the pipe is closed at its end.
fn receive(pipe: &mut Option<File>, kept: &mut Vec<u8>, most: usize) -> io::Result<()> {
    let Some(file) = pipe else { return Ok(()) };
    let mut buffer = [0; 8 << 10];
    match file.read(&mut buffer) {
        Ok(0) => *pipe = None,
        Ok(count) => kept.extend(&buffer[..count.min(most.saturating_sub(kept.len()))]),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// What a failed child said, in one line without control characters.
fn last_words(said: &[u8], status: i32) -> String {
    let text = String::from_utf8_lossy(said);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|letter| !letter.is_control()).take(500).collect();
    if line.is_empty() { format!("it ended with status {status}") } else { line }
}
