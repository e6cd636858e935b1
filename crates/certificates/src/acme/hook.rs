//! A program of the operator's that makes and removes TXT records.
//!
//! It is called as `HOOK present NAME VALUE` and `HOOK cleanup NAME VALUE`, with the same in the
//! environment as `HEARTH_ACME_ACTION`, `HEARTH_ACME_NAME` and `HEARTH_ACME_VALUE`; of the server's
//! environment it gets `PATH` and `HOME` only. Exit status 0 is success.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStderr, Command};
use tokio::time::timeout;

use super::{ChallengeRecords, RecordError};

/// What is kept of the hook's standard error, in bytes.
const STDERR_MAX: usize = 4096;
/// How long the rest of standard error is waited for when the hook has ended: what it left
/// running may hold it open.
const STDERR_PATIENCE: Duration = Duration::from_secs(1);

/// The program with its limit.
#[derive(Debug, Clone)]
pub struct Hook {
    program: PathBuf,
    limit: Duration,
}

impl Hook {
    /// A hook that is killed, with its whole process group, when it has not ended
    /// after `limit_seconds`.
    pub fn new(program: PathBuf, limit_seconds: u64) -> Self {
        Self { program, limit: Duration::from_secs(limit_seconds) }
    }

    async fn call(&self, action: &str, name: &str, value: &str) -> Result<(), RecordError> {
        let run_error = |source| RecordError::Run { program: self.program.clone(), source };
        let mut command = Command::new(&self.program);
        command.args([action, name, value]).env_clear();
        command.envs(["PATH", "HOME"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.envs([
            ("HEARTH_ACME_ACTION", action),
            ("HEARTH_ACME_NAME", name),
            ("HEARTH_ACME_VALUE", value),
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn().map_err(run_error)?;
        let group = child.id();
        let mut stderr = Vec::new();
        let ended = timeout(self.limit, watch(&mut child, &mut stderr)).await;
        let Ok(status) = ended else {
            // Not reaped yet, so the number is still its own.
            kill(group);
            let seconds = self.limit.as_secs();
            return Err(RecordError::TooSlow { program: self.program.clone(), seconds });
        };
        let status = status.map_err(run_error)?;
        let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
        if status.success() {
            return Ok(());
        }
        Err(RecordError::Failed { program: self.program.clone(), status, stderr })
    }
}

/// Waits for the end, and gathers what is said meanwhile.
async fn watch(child: &mut Child, stderr: &mut Vec<u8>) -> io::Result<ExitStatus> {
    let mut pipe = child.stderr.take();
    let mut reading = std::pin::pin!(gather(pipe.as_mut(), stderr));
    let status = tokio::select! {
        status = child.wait() => status?,
        () = &mut reading => return child.wait().await,
    };
    let _ = timeout(STDERR_PATIENCE, reading).await;
    Ok(status)
}

/// Reads to the end and keeps the beginning, so that nothing that is said blocks the hook.
async fn gather(pipe: Option<&mut ChildStderr>, kept: &mut Vec<u8>) {
    let Some(pipe) = pipe else { return };
    let mut piece = [0; 1024];
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        let room = STDERR_MAX - kept.len();
        kept.extend_from_slice(&piece[..length.min(room)]);
    }
}

fn kill(group: Option<u32>) {
    let group = group.and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, Signal::KILL)
    {
        tracing::debug!(%error, "a hook could not be killed");
    }
}

#[async_trait]
impl ChallengeRecords for Hook {
    async fn present(&self, name: &str, value: &str) -> Result<(), RecordError> {
        self.call("present", name, value).await
    }

    async fn cleanup(&self, name: &str, value: &str) -> Result<(), RecordError> {
        self.call("cleanup", name, value).await
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn hook(directory: &Path, script: &str, limit_seconds: u64) -> Hook {
        let program = directory.join("hook");
        // Written by another process: a file that this one has open for writing, or a child that
        // another test forks at that moment, cannot be executed (ETXTBSY, execve(2)).
        let write = r#"printf '#!/bin/sh\n%s\n' "$1" >"$0" && chmod 755 "$0""#;
        let written = Command::new("sh").args(["-c", write]).arg(&program).arg(script).status().unwrap();
        assert!(written.success());
        Hook::new(program, limit_seconds)
    }

    #[tokio::test]
    async fn it_is_called_as_documented() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("out");
        let script = format!(
            "echo \"$@ / $HEARTH_ACME_ACTION $HEARTH_ACME_NAME $HEARTH_ACME_VALUE\" >> {0}\nenv | grep -c CARGO >> {0}; true",
            out.display()
        );
        let hook = hook(directory.path(), &script, 20);
        hook.present("_acme-challenge.example.test", "value").await.unwrap();
        hook.cleanup("_acme-challenge.example.test", "value").await.unwrap();
        let name = "_acme-challenge.example.test value";
        let expected = format!("present {name} / present {name}\n0\ncleanup {name} / cleanup {name}\n0\n");
        assert_eq!(std::fs::read_to_string(out).unwrap(), expected);
    }

    #[tokio::test]
    async fn a_failure_says_why_and_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let script = "echo no such zone >&2; head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 3";
        let error = hook(directory.path(), script, 20).present("n", "v").await.unwrap_err().to_string();
        assert!(error.contains("ended with exit status: 3: no such zone\nxxx"), "{error}");
        assert!(error.len() < STDERR_MAX + 200);
        let error = Hook::new("/nonexistent/hook".into(), 1).present("n", "v").await.unwrap_err();
        assert!(matches!(error, RecordError::Run { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_hook_that_hangs_is_killed_with_what_it_started() {
        let directory = tempfile::tempdir().unwrap();
        let pid = directory.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {0}.new; mv {0}.new {0}; wait", pid.display());
        let error = hook(directory.path(), &script, 1).present("n", "v").await.unwrap_err();
        assert!(matches!(error, RecordError::TooSlow { seconds: 1, .. }), "{error}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let state = format!("/proc/{}/stat", pid.trim());
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        // Gone, or waiting for its new parent to notice.
        while std::fs::read_to_string(&state).is_ok_and(|text| !text.contains(") Z ")) {
            assert!(std::time::Instant::now() < deadline, "it is still there");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}
