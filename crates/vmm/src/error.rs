//! What can go wrong with a VMM.

use std::path::PathBuf;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A failed step, with its subject.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The VMM program is missing.
    #[error("{program} is not installed; run `make setup` or install the package {package}")]
    NotInstalled {
        /// Program looked for.
        program: String,
        /// Package that has it.
        package: String,
    },
    /// The VMM program is too old.
    #[error("QEMU {found} is too old: {wanted} or later is needed")]
    TooOld {
        /// Version found.
        found: String,
        /// Version needed.
        wanted: String,
    },
    /// This driver cannot do that.
    #[error("{operation} is not supported by this driver")]
    Unsupported {
        /// Which method.
        operation: &'static str,
    },
    /// The process could not be started.
    #[error("cannot start the VMM for {name}")]
    Spawn {
        /// VM name.
        name: String,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The process ended while something was asked of it.
    #[error("the VMM of {name} ended: {log_tail}")]
    Exited {
        /// VM name.
        name: String,
        /// Last lines of its log.
        log_tail: String,
    },
    /// The VMM refused a command.
    #[error("the VMM refused {command}: {message}")]
    Refused {
        /// API command.
        command: String,
        /// The VMM's words.
        message: String,
    },
    /// The VMM did not answer in time.
    #[error("the VMM did not answer {command} within {seconds} s")]
    TimedOut {
        /// API command.
        command: String,
        /// Seconds waited.
        seconds: u64,
    },
    /// A file operation failed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried (`write`, `rename`, …).
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// A snapshot file is not what its manifest says.
    #[error("{} is damaged: {detail}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        detail: String,
    },
    /// A snapshot was written by another version of Hearth. It is whole, but not for this one.
    #[error("{} has format {found}; this version of Hearth reads format {known}", path.display())]
    OtherFormat {
        /// Its manifest.
        path: PathBuf,
        /// Format found.
        found: u32,
        /// Format that is read.
        known: u32,
    },
    /// A snapshot was taken on another CPU.
    #[error(
        "the snapshot was taken on the CPU {taken:?} and this host has {host:?}; move it to a host with the same CPU, or build \
         the image again on this host"
    )]
    OtherCpu {
        /// CPU of the snapshot.
        taken: String,
        /// That of this host.
        host: String,
    },
    /// A snapshot was taken by another VMM, or on another architecture.
    #[error("the snapshot was taken by {taken} and can only be restored by the same; this is {host}")]
    OtherPlatform {
        /// VMM and architecture of the snapshot.
        taken: String,
        /// Those of this driver and host.
        host: String,
    },
    /// A snapshot was taken under an accelerator that this server does not use.
    #[error(
        "the snapshot was taken under {taken}, and this server runs guests under {host} because {reason}; where {taken} works, \
         start the server with HEARTH_ACCELERATOR={taken}"
    )]
    OtherAccelerator {
        /// Accelerator of the snapshot.
        taken: String,
        /// That of the server.
        host: String,
        /// Why the server uses it.
        reason: String,
    },
    /// A snapshot was taken on a CPU that can do more.
    #[error("the snapshot uses CPU features that this host does not have: {features}")]
    MissingFeatures {
        /// Names of them, as QEMU has them.
        features: String,
    },
    /// Guests run under KVM, and it is not there any more.
    #[error("/dev/kvm cannot be opened, under which guests run here")]
    NoKvm(#[source] std::io::Error),
    /// There is no space left.
    #[error("no space left for {}", path.display())]
    NoSpace {
        /// File that was being written.
        path: PathBuf,
    },
}
