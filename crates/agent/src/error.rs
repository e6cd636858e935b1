//! What can go wrong in the agent, each with its subject.

use std::io;

/// A step of the agent that failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("cannot mount {kind} on {target}")]
    Mount { kind: &'static str, target: String, source: io::Error },
    #[error("cannot unmount {target}")]
    Unmount { target: String, source: io::Error },
    #[error("cannot change the root file system")]
    ChangeRoot(#[source] io::Error),
    #[error("cannot read {path}")]
    Read { path: String, source: io::Error },
    #[error("cannot write {path}")]
    Write { path: String, source: io::Error },
    #[error("cannot load kernel module {path}")]
    Module { path: String, source: io::Error },
    #[error("cannot configure the network: {step}")]
    Network { step: &'static str, source: io::Error },
    #[error("cannot listen on the control network")]
    Listen(#[source] io::Error),
    #[error("there is no disk with serial number {serial:?}")]
    NoDisk { serial: String },
    #[error("cannot start a process")]
    Spawn(#[source] io::Error),
    #[error("{0}")]
    Stage(String),
    #[error("the app has been started already")]
    AlreadyStarted,
    #[error("the app does not run")]
    NotRunning,
    #[error("cannot open a terminal in the app's container")]
    Terminal(#[source] io::Error),
    #[error("cannot enter the app's container")]
    EnterContainer(#[source] io::Error),
    #[error("the image has neither bash nor sh")]
    NoShell,
    #[error("the image has neither ENTRYPOINT ENTRYPOINT nor CMD")]
    NoCommand,
    #[error("the command {command:?} was not found in the image (PATH={path})")]
    CommandNotFound { command: String, path: String },
    #[error("cannot start {command:?}{hint}")]
    Execute { command: String, hint: &'static str, source: io::Error },
    #[error("the command, an argument or a variable contains a NUL byte")]
    NulByte,
    #[error("the image's /etc/passwd has no user {0:?}")]
    UnknownUser(String),
    #[error("the image's /etc/group has no group {0:?}")]
    UnknownGroup(String),
    #[error("cannot enter the working directory {path}")]
    WorkingDir { path: String, source: io::Error },
    #[error("cannot set the app's {what}")]
    Privileges { what: &'static str, source: io::Error },
    #[error("cannot set the clock")]
    Clock(#[source] io::Error),
    #[error("cannot reseed the random number generator")]
    Entropy(#[source] io::Error),
    #[error("the build was stopped after {seconds} seconds")]
    BuildTimeout { seconds: u64 },
    #[error("cannot run {program}")]
    Program { program: &'static str, source: io::Error },
    #[error("{program} failed: {output}")]
    ProgramFailed { program: &'static str, output: String },
}
