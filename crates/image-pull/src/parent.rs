//! The server's side: starts the process that fetches, opens for it what the operator
//! has named, and ends it.

use std::io;
use std::net::TcpStream as StdTcpStream;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use hearth_confined::cgroup::{Cgroups, Group, Limits};
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use url::Url;

use crate::child::SUBCOMMAND;
use crate::messages::{self, FromChild, FromParent, MOST_DIALS, OperatorAddress};
use crate::origin::Origin;
use crate::spec::{Failure, LEAST_BYTES_PER_SECOND, MANIFEST_SECONDS, PullSpec, Resolved};

/// How long an address of the operator's may take to accept a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for starting, besides what the registry gets.
const SLACK: Duration = Duration::from_secs(15);
/// How long the end of a process that has hung up is waited for, to learn why.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// Threads of the process and of what sets the rules of its namespace before it
/// gives up its rights.
const THREADS: u32 = 4;
/// Memory of the process in MiB, where cgroups allow: what it may allocate, and pages of the
/// files that it writes.
const MEMORY_MIB: u32 = 512;

/// A process that fetches. It is killed when this is dropped.
#[derive(Debug)]
pub struct Fetch {
    process: tokio::process::Child,
    socket: AsyncFd<OwnedFd>,
    /// What the process may ask connections for: exactly these.
    registry: Option<(String, u16)>,
    proxy: Option<(String, u16)>,
    dials_left: usize,
    ends: Instant,
    /// Dropped after the process.
    group: OwnGroup,
}

/// The process's cgroups, removed when it has ended.
#[derive(Debug, Default)]
struct OwnGroup(Group);

impl Drop for OwnGroup {
    fn drop(&mut self) {
        std::mem::take(&mut self.0).remove_when_empty();
    }
}

impl Fetch {
    /// Starts `program` (this program, but for tests) to find out what the image is.
    ///
    /// `namespace` is the network namespace that connections leave from; nothing else may be in it.
    /// What `cgroups` cannot limit is not limited.
    pub async fn start(
        program: &Path,
        spec: &PullSpec,
        namespace: BorrowedFd<'_>,
        cgroups: &Arc<Cgroups>,
    ) -> Result<(Self, Resolved), Failure> {
        let registry = Url::parse(&spec.registry).ok().as_ref().map(Origin::of);
        let registry = registry.filter(|_| spec.from_operator).transpose()?;
        let (process, socket, group) = launch(program, spec, namespace, cgroups).await.map_err(|error| {
            tracing::error!(%error, "the process that fetches images could not be started");
            Failure::Setup
        })?;
        let mut fetch = Self {
            process,
            socket,
            registry: registry.map(|origin| (origin.host, origin.port)),
            proxy: spec.proxy.as_ref().map(|proxy| (proxy.host.clone(), proxy.port)),
            dials_left: MOST_DIALS,
            ends: Instant::now() + Duration::from_secs(spec.limits.seconds) + SLACK,
            group,
        };
        let until = fetch.ends.min(Instant::now() + Duration::from_secs(MANIFEST_SECONDS) + SLACK);
        match fetch.hear(until).await? {
            FromChild::Resolved(resolved) if is_digest(&resolved.digest) => Ok((fetch, resolved)),
            _ => Err(Failure::Ended),
        }
    }

    /// Lets it fetch the blobs, and returns when the layout is there and the process is gone.
    pub async fn finish(mut self, resolved: &Resolved) -> Result<(), Failure> {
        self.say(&FromParent::Proceed, None).await.map_err(|_| Failure::Ended)?;
        let time = Duration::from_secs(MANIFEST_SECONDS + resolved.bytes / LEAST_BYTES_PER_SECOND);
        let done = self.hear(self.ends.min(Instant::now() + time)).await?;
        // Nothing changes the layout any more.
        self.process.kill().await.map_err(|_| Failure::Ended)?;
        if done == FromChild::Done { Ok(()) } else { Err(Failure::Ended) }
    }

    /// The next message that is not about a connection, or why there is none.
    async fn hear(&mut self, until: Instant) -> Result<FromChild, Failure> {
        match self.converse(until).await {
            Err(Failure::Ended) => Err(self.end().await),
            other => other,
        }
    }

    /// Why the process has ended, which it cannot say itself.
    async fn end(&mut self) -> Failure {
        let Ok(Ok(status)) = timeout(END_PATIENCE, self.process.wait()).await else { return Failure::Ended };
        let failure = match status.signal() {
            Some(libc::SIGSYS) => Failure::Forbidden,
            // The kernel's limits of memory and CPU time; what cannot be allocated aborts.
            Some(libc::SIGKILL | libc::SIGABRT) => Failure::Starved,
            _ => Failure::Ended,
        };
        let out_of_memory = self.group.0.ran_out_of_memory();
        tracing::warn!(%status, out_of_memory, "the process that fetches images has ended");
        failure
    }

    async fn converse(&mut self, until: Instant) -> Result<FromChild, Failure> {
        let conversation = async {
            loop {
                let message = self
                    .socket
                    .async_io(Interest::READABLE, |socket| messages::receive::<FromChild>(socket.as_fd()));
                match message.await {
                    Ok((FromChild::Dial(address), None)) => {
                        let connection = self.dial(address).await;
                        let connection = connection.as_ref().map(StdTcpStream::as_fd);
                        self.say(&FromParent::Connection, connection).await.map_err(|_| Failure::Ended)?;
                    }
                    Ok((FromChild::Failed(failure), None)) => return Err(failure),
                    Ok((message, None)) => return Ok(message),
                    Ok((_, Some(_))) | Err(_) => return Err(Failure::Ended),
                }
            }
        };
        timeout_at(until, conversation).await.map_err(|_| Failure::TooSlow)?
    }

    async fn say(&self, message: &FromParent, descriptor: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.socket
            .async_io(Interest::WRITABLE, |socket| messages::send(socket.as_fd(), message, descriptor))
            .await
    }

    async fn dial(&mut self, address: OperatorAddress) -> Option<StdTcpStream> {
        self.dials_left = self.dials_left.checked_sub(1)?;
        let (host, port) = match address {
            OperatorAddress::Registry => self.registry.as_ref()?,
            OperatorAddress::Proxy => self.proxy.as_ref()?,
        };
        let connecting = TcpStream::connect((host.as_str(), *port));
        match timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|late| Err(late.into())) {
            Ok(stream) => stream.into_std().ok(),
            Err(error) => {
                tracing::warn!(host, port, %error, "a registry mirror or proxy could not be reached");
                None
            }
        }
    }
}

async fn launch(
    program: &Path,
    spec: &PullSpec,
    namespace: BorrowedFd<'_>,
    cgroups: &Arc<Cgroups>,
) -> io::Result<(tokio::process::Child, AsyncFd<OwnedFd>, OwnGroup)> {
    let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
    // Moving a process takes the kernel some time, and the thread that starts it has to
    // stay as long as it does.
    let cgroups = Arc::clone(cgroups);
    let limits = Limits { memory_mib: Some(MEMORY_MIB), cpu_percent: None, threads: THREADS };
    let group = OwnGroup(blocking(move || cgroups.create_for_child("fetch", limits)).await?);
    let process = tokio::process::Command::new(program)
        .arg(SUBCOMMAND)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = process.id().ok_or_else(|| io::Error::other("it has ended"))?;
    let group = blocking(move || group.0.add(pid).map(|()| group)).await?;
    // It does nothing before it hears this.
    messages::send(ours.as_fd(), spec, Some(namespace))?;
    rustix::io::ioctl_fionbio(&ours, true)?;
    Ok((process, watched(ours)?, group))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[expect(unsafe_code, reason = "tokio wants to be told that the descriptor stays the same")]
fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` keeps the same descriptor open as long as it lives.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

/// The digest becomes part of a file's name.
fn is_digest(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
