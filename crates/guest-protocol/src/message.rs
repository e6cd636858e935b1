//! The requests and replies of the control channel, and the constants both sides agree on.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Inspection, ShellSpec};

/// Version of this protocol. An agent in an old snapshot answers with its own in [`Hello`].
pub const PROTOCOL_VERSION: u32 = 1;

/// TCP port of the agent on the control network.
pub const AGENT_PORT: u16 = 1024;
/// Address of the host on the control network (a /30, the same in every microVM's
/// network namespace).
pub const CONTROL_HOST: [u8; 4] = [169, 254, 254, 1];
/// Address of the agent on the control network.
pub const CONTROL_GUEST: [u8; 4] = [169, 254, 254, 2];
/// Address of the host on the app network: the guest's default gateway (a /30).
pub const APP_GATEWAY: [u8; 4] = [192, 168, 241, 1];
/// Address of the guest on the app network.
pub const APP_GUEST: [u8; 4] = [192, 168, 241, 2];
/// Address by which the host reaches the app's loopback past the agent: in its packets the host's
/// namespace replaces it, and the source, by 127.0.0.1. Link-local (RFC 3927), so that it means
/// nothing outside of the namespace.
pub const APP_LOOPBACK: [u8; 4] = [169, 254, 241, 2];
/// Address of the resolver that the guest's `resolv.conf` names; served by the host on
/// the app network's TAP.
pub const RESOLVER: [u8; 4] = [169, 254, 53, 53];
/// MAC address of the guest's app NIC (virtio-net); all clones share it, each in a
/// namespace of its own.
pub const APP_MAC: [u8; 6] = [0x02, 0x48, 0x45, 0x41, 0x52, 0x01];
/// MAC address of the guest's control NIC.
pub const CONTROL_MAC: [u8; 6] = [0x02, 0x48, 0x45, 0x41, 0x52, 0x02];
/// MAC address of the host's side of both TAPs: fixed, so that a guest's ARP cache stays
/// right in every clone.
pub const HOST_MAC: [u8; 6] = [0x02, 0x48, 0x45, 0x41, 0x52, 0xfe];

/// First byte of the answer to [`Request::Forward`]: connected; raw bytes follow in
/// both directions.
pub const FORWARD_CONNECTED: u8 = 0;
/// First byte of the answer to [`Request::Forward`]: nothing listens on that port; the
/// connection is closed.
pub const FORWARD_REFUSED: u8 = 1;
/// Longest list of listening ports in a [`Reply::Listening`].
pub const MAX_LISTENING: usize = 256;

/// A frame that the host sends. `Forward`, `Output`, `Shell` and `Build` use up their connection;
/// after the reply to any other request the next may follow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Answered by [`Reply::Hello`].
    Hello,
    /// Sent after every restore, before anything else: sets the wall clock, reseeds the kernel's
    /// RNG and drops the connections that belonged to the former life. Answered by [`Reply::Done`].
    Restored {
        /// Host's wall clock, nanoseconds since 1970-01-01T00:00:00Z.
        unix_nanos: u64,
        /// 32 bytes of host entropy, hexadecimal. Empty when the request is repeated, only to
        /// set the clock better.
        entropy: String,
    },
    /// Connects to `127.0.0.1:port` (then `[::1]:port`) in the app's network namespace. The
    /// host may send the app's bytes right behind this frame. The answer is one byte
    /// ([`FORWARD_CONNECTED`] or [`FORWARD_REFUSED`]), then raw bytes; half-close is passed
    /// on in both directions.
    Forward {
        /// TCP port inside the guest.
        port: u16,
    },
    /// Mounts the root disk and starts the app's container. Answered by [`Reply::Done`] once the
    /// app's process has been started (`execve` succeeded), or [`Reply::Error`].
    StartApp {
        /// What to start.
        app: AppSpec,
    },
    /// Answered by [`Reply::Listening`] when a TCP socket listens in the app's network namespace,
    /// by [`Reply::Exited`] when the app ended first, or by [`Reply::TimedOut`].
    WaitListening {
        /// Milliseconds to wait.
        timeout_ms: u64,
    },
    /// Answered by [`Reply::Exited`] when the app's first process has ended (at once
    /// if it already has).
    WaitExit,
    /// Streams the app's output as [`Reply::Output`] frames, without end, from byte `from` of
    /// the agent's ring buffer on (older bytes that fell out of the ring are skipped; the
    /// frame's `position` tells).
    Output {
        /// Position of the first byte wanted, counted from the start of the app.
        from: u64,
    },
    /// POSTs a lifecycle hook to `127.0.0.1:port` on a fresh connection (HTTP/1.1). Answered by
    /// [`Reply::Hook`].
    Hook {
        /// Hook port of the app.
        port: u16,
        /// Absolute path, see [`hook_path`].
        path: String,
        /// JSON body; empty for a bare POST.
        body: String,
        /// Milliseconds for the whole exchange.
        timeout_ms: u64,
    },
    /// Starts a shell, or another program, as root in the app's container. Answered by
    /// [`Reply::Done`] once it runs, or [`Reply::Error`]; then [`crate::ToShell`] and
    /// [`crate::FromShell`] frames follow. What belongs to the shell ends with the connection.
    Shell {
        /// What to start.
        shell: ShellSpec,
    },
    /// Runs a build in the build microVM: mounts the disks and runs `build-image` of the builder
    /// root. Streams [`Reply::Output`] frames and ends with [`Reply::Built`] or [`Reply::Error`].
    Build {
        /// What to build.
        build: BuildSpec,
    },
    /// Looks at the app's processes and connections. Answered by [`Reply::Inspection`].
    Inspect {
        /// Longest time for that, in milliseconds.
        timeout_ms: u64,
    },
    /// Flushes file systems, so that the disk and the memory of the snapshot agree. Answered by
    /// [`Reply::Done`].
    PrepareSnapshot,
    /// Syncs, unmounts and powers off. Answered by [`Reply::Done`] just before.
    PowerOff,
}

/// A frame that the agent sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Answer to [`Request::Hello`].
    Hello(Hello),
    /// The request was carried out.
    Done,
    /// The request failed; `message` is one sentence without a full stop.
    Error {
        /// What went wrong.
        message: String,
    },
    /// The app listens.
    Listening {
        /// The lowest of the TCP ports.
        port: u16,
        /// All of them, in ascending order, at most [`MAX_LISTENING`]. Agents of older
        /// images do not send them.
        #[serde(default)]
        ports: Vec<u16>,
    },
    /// The app's first process ended.
    Exited {
        /// Exit code; 128 + signal number when a signal ended it.
        code: i32,
    },
    /// The time ran out.
    TimedOut,
    /// A piece of output.
    Output {
        /// Position of the first byte of `data`, counted from the start of the app or build.
        position: u64,
        /// Which stream it came from.
        stream: OutputStream,
        /// The bytes, lossily as UTF-8 text.
        data: String,
    },
    /// The hook's result.
    Hook(HookResult),
    /// What there is of the app.
    Inspection(Inspection),
    /// The build's end.
    Built {
        /// Exit code of the build script: 0 is success.
        code: i32,
        /// OCI image configuration (JSON) of the result; empty on failure.
        oci_config: String,
        /// Bytes used on the new root disk.
        root_bytes: u64,
    },
}

/// What the agent says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL_VERSION`] of the agent.
    pub protocol: u32,
    /// Kernel release (`uname -r`).
    pub kernel: String,
    /// Whether the app has been started, is running, or has ended.
    pub app: AppState,
}

/// Where the app is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// [`Request::StartApp`] has not been received.
    NotStarted,
    /// The first process runs.
    Running,
    /// The first process ended with this code.
    Exited(i32),
}

/// Which of the app's streams a piece of output came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The outcome of a hook call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "result")]
pub enum HookResult {
    /// The app answered.
    Status {
        /// HTTP status.
        code: u16,
    },
    /// Nothing listens on the hook port.
    Refused,
    /// No complete answer in time.
    TimedOut,
    /// The connection broke or the answer was no HTTP.
    Broken,
}

/// The app's container, from the OCI image configuration and the image version's own settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppSpec {
    /// Serial number (`virtio-blk` `serial=`) of the ext4 disk that is the root file system.
    pub root_disk: String,
    /// ENTRYPOINT followed by CMD; the first is looked up in the container's PATH
    /// when it has no slash.
    pub argv: Vec<String>,
    /// Environment, complete (PATH included).
    pub env: BTreeMap<String, String>,
    /// WORKDIR; created when missing; empty means `/`.
    pub working_dir: String,
    /// USER as in the Dockerfile: empty, `name`, `uid`, `name:group`, `uid:gid`; looked up in the
    /// container's `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// Host name inside the container's UTS namespace.
    pub hostname: String,
    /// Capabilities of root in the container.
    pub capabilities: Capabilities,
}

/// Which capability set root has in the container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Capabilities {
    /// Docker's default fourteen (`CapEff 00000000a80425fb`).
    Default,
    /// Everything that the guest kernel has.
    All,
}

/// A Dockerfile build; disks are named by their `virtio-blk` serial numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildSpec {
    /// Read-only ext4 disk with the builder's Debian root.
    pub builder_disk: String,
    /// Raw disk that holds the build context as a tar stream.
    pub context_disk: String,
    /// ext4 disk with the layer cache (containers-storage), read-write.
    pub cache_disk: String,
    /// Empty ext4 disk that becomes the root file system.
    pub out_disk: String,
    /// Read-only ext4 disks with prepared base images (additional image stores).
    pub store_disks: Vec<String>,
    /// PEM certificates to trust while RUN lines run; empty for none.
    pub ca_bundle: String,
    /// The Dockerfile in words that the builder takes; empty when the context's own is right.
    #[serde(default)]
    pub dockerfile: String,
    /// Seconds after which the build is stopped.
    pub timeout_seconds: u64,
}

/// Path of a hook of the app, by its name in lower case, as the service calls it.
pub fn hook_path(name: &str) -> String {
    format!("/aws/lambda-microvms/runtime/v1/{name}")
}
