//! The session of a shell: its processes, from the start of the first to the end of the last.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use hearth_guest_protocol::ShellSpec;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::app;
use crate::children::{self, Kind};
use crate::error::Error;
use crate::shell_stage::StageSpec;
use crate::terminal::{Stdio, Terminal};

/// How long processes have to end by themselves once their shell has gone.
const GRACE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// A shell and whatever was started from it, except what made its own session (setsid(2)). All of
/// it ends when this is dropped. Close the terminal first.
#[derive(Debug)]
pub(crate) struct Session {
    /// The shell, and the number of the session.
    pid: i32,
}

impl Session {
    /// Starts the shell and returns when its program runs.
    pub(crate) fn start(spec: &ShellSpec) -> Result<(Self, Terminal), Error> {
        let (app, app_spec) = app::running().ok_or(Error::NotRunning)?;
        let (terminal, stdio) = Terminal::open(spec.terminal, app).map_err(Error::Terminal)?;
        let stage = StageSpec {
            app,
            argv: spec.argv.clone(),
            terminal: spec.terminal,
            env: app_spec.env,
            working_dir: app_spec.working_dir,
            capabilities: app_spec.capabilities,
        };
        let (pid, status) = start_beside(app, &stage, &stdio)?;
        drop(stdio);
        let session = Self { pid };
        let mut message = String::new();
        File::from(status)
            .read_to_string(&mut message)
            .map_err(|source| Error::Read { path: "the shell's status".into(), source })?;
        if message.is_empty() { Ok((session, terminal)) } else { Err(Error::Stage(message)) }
    }

    /// The shell's exit code once it has ended; 128 + signal number when a signal ended it.
    pub(crate) fn exit_code(&self) -> Option<i32> {
        children::exit_code(self.pid)
    }

    /// Processes that would end by SIGHUP. One that ignores it, as nohup(1) makes programs do, is
    /// meant to outlive the shell.
    fn members(&self) -> Vec<Pid> {
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        numbers.filter(|pid| belongs(*pid, self.pid)).map(Pid::from_raw).collect()
    }

    fn signal(members: &[Pid], signal: Signal) {
        for pid in members {
            // It may have ended meanwhile.
            let _ = kill(*pid, signal);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let deadline = Instant::now() + GRACE;
        let mut members = self.members();
        Self::signal(&members, Signal::SIGHUP);
        // What is stopped would not take notice.
        Self::signal(&members, Signal::SIGCONT);
        while !members.is_empty() || self.exit_code().is_none() {
            if Instant::now() >= deadline {
                Self::signal(&members, Signal::SIGKILL);
                children::kill(self.pid);
            }
            thread::sleep(PAUSE);
            members = self.members();
        }
        children::forget(self.pid);
    }
}

/// Starts the stage among the processes of the app. A thread that has entered a PID namespace can
/// start no more threads, so one is made for this and then ends.
fn start_beside(app: i32, stage: &StageSpec, stdio: &Stdio) -> Result<(i32, std::os::fd::OwnedFd), Error> {
    let start = || {
        let processes = File::open(format!("/proc/{app}/ns/pid"))?;
        setns(processes, CloneFlags::CLONE_NEWPID)?;
        let (input, output) = (stdio.input.as_fd(), stdio.output.as_fd());
        children::start_on(Kind::Shell, stage, [input, output, output])
    };
    let started = thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, start)?;
        thread.join().unwrap_or_else(|_| Err(std::io::Error::other("the thread panicked")))
    });
    started.map_err(Error::Spawn)
}

/// Whether a process is in this session and would end by SIGHUP. One that has ended and waits
/// for its parent is not.
fn belongs(pid: i32, session: i32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    if session_of(&stat) != Some(session) {
        return false;
    }
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    !status.is_empty() && !ignores_hang_up(&status)
}

/// The session in a line of `/proc/PID/stat` (proc(5)), unless the process is a zombie. The name in
/// parentheses may hold anything.
fn session_of(stat: &str) -> Option<i32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    (!matches!(state, "Z" | "X")).then(|| fields.nth(2)?.parse().ok())?
}

/// Whether SIGHUP is in the mask `SigIgn` of `/proc/PID/status`.
fn ignores_hang_up(status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (Signal::SIGHUP as i32 - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_read_behind_any_name() {
        assert_eq!(session_of("12 (a) b) (c) S 1 12 77 34816 12 0"), Some(77));
        assert_eq!(session_of("12 (sleep) Z 1 12 77 0 -1 0"), None);
        assert_eq!(session_of("nonsense"), None);
    }

    #[test]
    fn who_ignores_sighup_is_told_by_the_mask() {
        assert!(ignores_hang_up("Name:\tx\nSigIgn:\t0000000000000001\n"));
        assert!(ignores_hang_up("SigIgn:\t0000000000001005\n"));
        assert!(!ignores_hang_up("SigIgn:\t0000000000001004\n"));
        assert!(!ignores_hang_up("Name:\tx\n"));
    }
}
