//! The stage that becomes a shell: it enters the namespaces of the app's container and takes on
//! what root has there.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;

use hearth_guest_protocol::{Capabilities, Terminal};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{chdir, setsid};
use serde::{Deserialize, Serialize};

use crate::container::{execute, find_program};
use crate::error::Error;
use crate::{privileges, stage, user};

/// The terminal that shells of the service say they are on.
const TERM: &str = "xterm";
/// The prompt of the service's shells; an image's own bashrc may set another one.
const PROMPT: &str = "λ $ ";

/// What the agent tells the stage.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StageSpec {
    /// The app's first process, as the agent numbers it.
    pub(crate) app: i32,
    /// Program and arguments; empty for a shell.
    pub(crate) argv: Vec<String>,
    pub(crate) terminal: Terminal,
    /// Of the app.
    pub(crate) env: BTreeMap<String, String>,
    /// Of the app.
    pub(crate) working_dir: String,
    /// Of root in the app's container.
    pub(crate) capabilities: Capabilities,
}

/// The stage's whole life; the shell's program replaces it.
pub(crate) fn main() -> ! {
    stage::run(|spec: StageSpec, _| become_shell(spec))
}

fn become_shell(spec: StageSpec) -> Result<(), Error> {
    enter_container(spec.app).map_err(Error::EnterContainer)?;
    setsid().map_err(|errno| Error::Terminal(errno.into()))?;
    if spec.terminal == Terminal::Pty {
        control_terminal().map_err(Error::Terminal)?;
    }
    umask(Mode::from_bits_truncate(0o022));
    // The app may have removed its directory.
    let directory = if spec.working_dir.is_empty() { "/" } else { &spec.working_dir };
    chdir(directory)
        .or_else(|_| chdir("/"))
        .map_err(|errno| Error::WorkingDir { path: "/".into(), source: errno.into() })?;

    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let root = user::resolve("0", &read("/etc/passwd"), &read("/etc/group"))?;
    privileges::reduce(&root, spec.capabilities)?;
    let mut env = spec.env;
    env.entry("HOME".into()).or_insert(root.home);
    if spec.terminal == Terminal::Pty {
        env.insert("TERM".into(), TERM.into());
        env.insert("PS1".into(), PROMPT.into());
    }
    let path = env.get("PATH").map_or("", String::as_str);
    let argv = if spec.argv.is_empty() { vec![shell(path)?.to_owned()] } else { spec.argv };
    let program = find_program(&argv[0], path)?;
    execute(&program, &argv, &env)
}

/// The best shell that the image has.
fn shell(path: &str) -> Result<&'static str, Error> {
    ["bash", "sh"].into_iter().find(|name| find_program(name, path).is_ok()).ok_or(Error::NoShell)
}

/// Enters the container's namespaces but for those of processes and of the network, in which
/// the agent has started the stage. The root directory and the working directory become
/// those of the container.
fn enter_container(app: i32) -> io::Result<()> {
    let open = |name| File::open(format!("/proc/{app}/ns/{name}"));
    let namespaces = [
        (open("uts")?, CloneFlags::CLONE_NEWUTS),
        (open("ipc")?, CloneFlags::CLONE_NEWIPC),
        (open("mnt")?, CloneFlags::CLONE_NEWNS),
    ];
    for (namespace, kind) in namespaces {
        setns(namespace, kind)?;
    }
    Ok(())
}

/// Makes standard input the controlling terminal of the session, which signals and
/// job control need.
fn control_terminal() -> io::Result<()> {
    // SAFETY: TIOCSCTTY takes a number.
    Errno::result(unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) })?;
    Ok(())
}
