//! What a VMM prints: its last lines, kept in memory.
//!
//! A guest can make QEMU print without end, and one that has broken out of it can write what it
//! likes. So the VMM's standard error is a pipe that is read at a bounded pace and of which only
//! the end is kept; nothing of it reaches the disk. The writing end never waits: what does not fit
//! into the pipe is lost.

use std::fs::File;
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::OFlags;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::watch;

/// How much of it is quoted in errors, and kept.
pub(super) const TAIL_BYTES: usize = 2000;
/// Bytes that are read in [`PACE`] at most.
const READ_BYTES: usize = 64 << 10;
const PACE: Duration = Duration::from_millis(100);
/// How long the last words of a process that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// The end of what one VMM has printed.
#[derive(Debug)]
pub(super) struct Log {
    tail: Mutex<Vec<u8>>,
    over: watch::Sender<bool>,
}

/// The ends of a new pipe: for [`Log::follow`], and for the VMM.
pub(super) fn pipe() -> io::Result<(OwnedFd, PipeWriter)> {
    let (reader, writer) = io::pipe()?;
    rustix::fs::fcntl_setfl(&writer, OFlags::NONBLOCK)?;
    Ok((reader.into(), writer))
}

/// The pipe of a process that an earlier server has started; `None` if it has none (an earlier
/// version gave it a file) or is gone.
pub(super) fn pipe_of(pid: u32) -> Option<OwnedFd> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = File::options().read(true).custom_flags(flags).open(format!("/proc/{pid}/fd/2")).ok()?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&file).ok()?.st_mode);
    (kind == rustix::fs::FileType::Fifo).then(|| file.into())
}

impl Log {
    /// Follows what comes out of a pipe until all of its writing ends are closed.
    pub(super) fn follow(pipe: Option<OwnedFd>) -> io::Result<Arc<Self>> {
        let log = Arc::new(Self { tail: Mutex::default(), over: watch::Sender::new(pipe.is_none()) });
        if let Some(pipe) = pipe {
            let pipe = Receiver::from_owned_fd(pipe)?;
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                // An error ends it like the end of the stream: there is no more to read.
                let _ = log.read(&pipe).await;
                log.over.send_replace(true);
            });
        }
        Ok(log)
    }

    async fn read(&self, pipe: &Receiver) -> io::Result<()> {
        let mut buffer = vec![0; 4096];
        let mut read = 0;
        loop {
            pipe.readable().await?;
            match pipe.try_read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(length) => {
                    self.push(&buffer[..length]);
                    read += length;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            if read >= READ_BYTES {
                read = 0;
                tokio::time::sleep(PACE).await;
            }
        }
    }

    fn tail(&self) -> MutexGuard<'_, Vec<u8>> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, bytes: &[u8]) {
        let mut tail = self.tail();
        tail.extend_from_slice(bytes);
        // One byte more, which tells that a line may be cut off.
        let surplus = tail.len().saturating_sub(TAIL_BYTES + 1);
        tail.drain(..surplus);
    }

    /// Waits for the last words of a process that has ended.
    pub(super) async fn complete(&self) {
        let mut over = self.over.subscribe();
        // Whoever keeps the pipe open is not waited for.
        let _ = tokio::time::timeout(LAST_WORDS, over.wait_for(|over| *over)).await;
    }

    /// The last lines.
    pub(super) fn last_lines(&self) -> String {
        let tail = self.tail();
        if tail.len() <= TAIL_BYTES {
            return String::from_utf8_lossy(&tail).trim_end().to_owned();
        }
        // Not a line that is cut off.
        let text = String::from_utf8_lossy(&tail[1..]);
        text.split_once('\n').map_or(&*text, |(_, rest)| rest).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn the_last_lines_are_kept_of_any_flood() {
        let (reader, mut writer) = pipe().unwrap();
        let log = Log::follow(Some(reader)).unwrap();
        let mut sent = 0;
        while sent < 1 << 20 {
            // Nobody who floods is waited for, and nobody has to wait.
            match writer.write(&[b'x'; 4096]) {
                Ok(length) => sent += length,
                Err(error) => {
                    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            assert!(log.tail().capacity() <= 4 * 4096, "{}", log.tail().capacity());
        }
        while writer.write(b"\nqemu: it is over\n").is_err() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(writer);
        log.complete().await;
        assert_eq!(log.last_lines(), "qemu: it is over");
    }

    #[tokio::test]
    async fn a_later_server_reads_on() {
        let (reader, writer) = pipe().unwrap();
        let mut sleeper = std::process::Command::new("sh")
            .args(["-c", "echo one >&2; read line; echo two >&2"])
            .stdin(std::process::Stdio::piped())
            .stderr(writer)
            .spawn()
            .unwrap();
        let first = Log::follow(Some(reader)).unwrap();
        while first.last_lines() != "one" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let later = Log::follow(pipe_of(sleeper.id())).unwrap();
        drop(sleeper.stdin.take());
        sleeper.wait().unwrap();
        later.complete().await;
        first.complete().await;
        let words = [first.last_lines(), later.last_lines()];
        assert!(words.iter().any(|words| words.ends_with("two")), "{words:?}");
        assert!(pipe_of(u32::MAX).is_none());
        Log::follow(None).unwrap().complete().await;
    }

    #[test]
    fn a_line_that_is_cut_off_is_left_out() {
        let log = Log { tail: Mutex::default(), over: watch::Sender::new(true) };
        log.push(b"one\ntwo\n");
        assert_eq!(log.last_lines(), "one\ntwo");
        log.push(&[b'y'; TAIL_BYTES - 4]);
        log.push(b"\nend\n");
        assert_eq!(log.last_lines(), "end");
    }
}
