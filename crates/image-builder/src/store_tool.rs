//! Makes a store disk of an OCI layout by `guest/store-image.sh`, which never runs or unpacks
//! anything of it as root.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hearth_confined::cgroup::{self, Cgroups, Limits};
use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use crate::failure::{BuildFailure, FailureCode};

/// How much is kept of what the program says, in bytes: its end.
const SAID_BYTES: usize = 4096;
/// How much of that is told, in characters.
const TOLD: usize = 500;
/// Memory and threads of the program and of all that it starts, where cgroups allow: the 2 GiB that
/// `store-image.sh` gives each of its programs, and pages of the files that they write. The one
/// that reads layers comes to use some hundred MiB.
pub(crate) const LIMITS: Limits = Limits { memory_mib: Some(3 << 10), cpu_percent: None, threads: 64 };

/// The program and all that it has started; ended when this is dropped.
#[derive(Debug)]
struct Running {
    /// `None` when it has ended by itself: its number may be another's from then on.
    processes: Option<Pid>,
    group: cgroup::Group,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(processes) = self.processes {
            // An error says that there is nobody left.
            let _ = rustix::process::kill_process_group(processes, Signal::KILL);
        }
        std::mem::take(&mut self.group).remove_when_empty();
    }
}

/// What makes store disks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreTool<'a> {
    /// The program.
    pub(crate) program: &'a Path,
    /// What limits it, where this host allows.
    pub(crate) cgroups: &'a Arc<Cgroups>,
    /// To what.
    pub(crate) limits: Limits,
}

impl StoreTool<'_> {
    /// Runs the program for at most `time`. What it works on lies beside `store`, and goes with the
    /// directory that they are in.
    pub(crate) async fn make_store(
        self,
        layout: &Path,
        name: &str,
        store: &Path,
        unpacked_bytes: u64,
        time: Duration,
    ) -> Result<(), BuildFailure> {
        let platform = |error: io::Error| BuildFailure::platform("run guest/store-image.sh", &error);
        let configured = std::env::var("HEARTH_MAX_IMAGE_BYTES").ok().and_then(|text| text.parse().ok());
        let bytes = configured.unwrap_or(u64::MAX).min(unpacked_bytes);
        let mut command = Command::new("sh");
        // It waits until it is in its group. The tool's own users have to read what it makes; the
        // server's umask is for the server's files.
        command
            .args(["-c", r#"umask 022 && read -r go && exec "$0" "$@" </dev/null"#])
            .arg(self.program)
            .args([layout.as_os_str(), name.as_ref(), store.as_os_str()])
            .env("HEARTH_MAX_IMAGE_BYTES", bytes.to_string());
        let (child, mut running) = self.start(command).await.map_err(platform)?;
        let unusable = |detail: &str| {
            let message = format!("The base image {name} could not be used: {detail}.");
            BuildFailure::new(FailureCode::ContainerBuildFailed, message)
        };
        let (status, said) = tokio::time::timeout(time, end_of(child))
            .await
            .map_err(|_| unusable("it takes too long to unpack"))?
            .map_err(platform)?;
        running.processes = None;
        match self.limits.memory_mib {
            _ if status.success() => Ok(()),
            Some(mib) if running.group.ran_out_of_memory() => Err(unusable(&format!(
                "unpacking it takes more than the {mib} MiB of memory that are allowed"
            ))),
            _ => Err(unusable(&told(&said, status))),
        }
    }

    async fn start(self, mut command: Command) -> io::Result<(Child, Running)> {
        let (cgroups, limits) = (Arc::clone(self.cgroups), self.limits);
        let group = blocking(move || cgroups.create_for_child("unpack", limits)).await?;
        let mut running = Running { processes: None, group };
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let pid = child.id().ok_or_else(|| io::Error::other("it has ended"))?;
        running.processes = Pid::from_raw(pid.cast_signed());
        let running = blocking(move || running.group.add(pid).map(|()| running)).await?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(b"go\n").await?;
        }
        Ok((child, running))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// How a program has ended, and the last bytes of its standard error: a layer that has taken the
/// program over can make it write without end.
async fn end_of(mut child: Child) -> io::Result<(ExitStatus, Vec<u8>)> {
    let said = match child.stderr.take() {
        Some(stderr) => last_bytes(stderr).await?,
        None => Vec::new(),
    };
    Ok((child.wait().await?, said))
}

async fn last_bytes(mut stream: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let (mut last, mut buffer) = (Vec::new(), vec![0; SAID_BYTES]);
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(last);
        }
        last.extend_from_slice(&buffer[..length]);
        last.drain(..last.len().saturating_sub(SAID_BYTES));
    }
}

/// What a program said last, in one line without control characters and the full stop.
fn told(said: &[u8], status: ExitStatus) -> String {
    let text = String::from_utf8_lossy(said);
    let words: Vec<&str> = text.split_whitespace().collect();
    let line: String = words.join(" ").chars().filter(|letter| !letter.is_control()).collect();
    let surplus = line.chars().count().saturating_sub(TOLD);
    let line: String = line.trim_end_matches('.').chars().skip(surplus).collect();
    if line.is_empty() { format!("what unpacks it gave no reason ({status})") } else { line }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    const LONG: Duration = Duration::from_secs(1000);

    /// A program instead of `store-image.sh`, in a directory of its own.
    fn program(script: &str) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("tool");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        (directory, program)
    }

    fn cgroups() -> Arc<Cgroups> {
        Arc::new(Cgroups::probe())
    }

    async fn failure(script: &str, limits: Limits, time: Duration) -> BuildFailure {
        let (directory, program) = program(script);
        let (path, cgroups) = (directory.path().join("x"), cgroups());
        let tool = StoreTool { program: &program, cgroups: &cgroups, limits };
        tool.make_store(&path, "x", &path, 1, time).await.unwrap_err()
    }

    #[tokio::test]
    async fn a_conversion_that_is_given_up_leaves_no_process() {
        // Its child writes its id, and then waits for longer than any test.
        let (directory, program) = program("sh -c 'echo $$ >\"$0\"; exec sleep 1000' \"$3\"");
        let (layout, store) = (directory.path().join("layout"), directory.path().join("store"));
        let cgroups = cgroups();
        let tool = StoreTool { program: &program, cgroups: &cgroups, limits: LIMITS };
        let making = tool.make_store(&layout, "x", &store, 1, LONG);
        let id = async {
            loop {
                let text = std::fs::read_to_string(&store).unwrap_or_default();
                if text.ends_with('\n') {
                    return text.trim().to_owned();
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let id = tokio::select! {
            made = making => panic!("{made:?}"),
            id = id => id,
        };
        let runs = || {
            let status = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
            status.contains("sleep") && !status.contains(") Z ")
        };
        while runs() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn what_takes_too_long_or_fails_is_a_failed_build() {
        for (script, time, expected) in [
            ("sleep 1000", Duration::from_millis(20), "takes too long"),
            ("echo not a usable image: x. >&2; exit 1", LONG, "used: not a usable image: x."),
            ("exit 3", LONG, "used: what unpacks it gave no reason (exit status: 3)."),
            ("kill -9 $$", LONG, "used: what unpacks it gave no reason (signal: 9 (SIGKILL))."),
            ("printf 'a \\033[2J\\nb\\n' >&2; exit 1", LONG, "used: a [2J b."),
        ] {
            let failure = failure(script, LIMITS, time).await;
            assert!(failure.message.ends_with(expected) || time < LONG, "{script}: {failure}");
            assert!(failure.message.contains(expected), "{script}: {failure}");
        }
    }

    #[tokio::test]
    async fn memory_of_all_that_unpacks_an_image_is_bounded_together() {
        if let Err(reason) = &cgroups().memory {
            println!("skipped: {reason}");
            return;
        }
        // None of them takes much, but all of them do; what is left of them after
        // that says nothing.
        let script = "for i in 1 2 3 4 5 6 7 8; do head -c 32M /dev/zero | tail -c 32M >/dev/null & done; wait; exit 1";
        let limits = Limits { memory_mib: Some(64), ..LIMITS };
        let failure = failure(script, limits, LONG).await;
        let expected =
            "could not be used: unpacking it takes more than the 64 MiB of memory that are allowed.";
        assert!(failure.message.ends_with(expected), "{failure}");
    }

    /// The most memory that this process has used since it was last asked, in KiB
    /// (proc_pid_status(5), VmHWM).
    fn most_memory_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        std::fs::write("/proc/self/clear_refs", "5").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    #[tokio::test]
    async fn a_converter_that_complains_without_end_costs_the_server_no_memory() {
        most_memory_kib();
        let before = most_memory_kib();
        let failure = failure("head -c 512M /dev/zero | tr '\\0' x >&2; exit 1", LIMITS, LONG).await;
        assert!(failure.message.len() < 1000, "{}", failure.message.len());
        let after = most_memory_kib();
        assert!(after < before + (256 << 10), "{before} KiB before, {after} KiB after");
    }
}
