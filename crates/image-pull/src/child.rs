//! The process that fetches: gives up everything that it does not need, then talks to the registry.

use std::ffi::OsStr;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hearth_confined::{allow_network_client, drop_privileges, end_with_parent, limit, step};
use hearth_host_net::{RESOLVER_ADDRESS, admit_process};
use nix::sched::{CloneFlags, setns};
use rustix::process::Resource;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use url::Url;

use crate::address::Reach;
use crate::dial::{Dial, Dialer};
use crate::http::Http;
use crate::layout::Layout;
use crate::messages::{self, FromChild, FromParent};
use crate::origin::Origins;
use crate::registry::{Manifest, Repository};
use crate::spec::{Failure, MANIFEST_SECONDS, PullSpec, Resolved};

/// First argument of the program when it is to fetch an image.
pub const SUBCOMMAND: &str = "fetch-image";

/// Most memory that the process may write to, in bytes: manifests are 4 MiB,
/// everything else is streamed.
const MEMORY_BYTES: u64 = 256 << 20;
/// Most descriptors.
const DESCRIPTORS: u64 = 64;
/// Makes the kernel end this process rather than the server or a microVM when memory runs out; see
/// `proc_pid_oom_score_adj(5)`.
const OOM_SCORE_ADJUSTMENT: &str = "900";

/// Becomes the process that fetches if the command line says so, and does not return then. To be
/// called first in `main`, before there is a second thread.
pub fn run_if_requested() {
    if std::env::args_os().nth(1).as_deref() != Some(OsStr::new(SUBCOMMAND)) {
        return;
    }
    std::process::exit(match run() {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("{SUBCOMMAND}: {error}");
            125
        }
    });
}

fn run() -> io::Result<()> {
    step("leave the server", leave())?;
    let server = rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3)?;
    let (spec, namespace) = step("hear from the server", messages::receive::<PullSpec>(server.as_fd()))?;
    let reach = Reach::parse(&spec.allowed_ranges)
        .ok_or_else(|| io::Error::other("a range that guests may reach is not valid"))?;
    let tls = step("read the authorities", tls(spec.ca_bundle.as_deref()))?;
    let namespace = namespace.ok_or_else(|| io::Error::other("there is no network namespace"))?;
    step(
        "enter the network namespace",
        setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(io::Error::from),
    )?;
    drop(namespace);
    step("set its rules", admit_process(spec.uid).map_err(io::Error::other))?;
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    step("change the root directory", rustix::process::chroot(&spec.layout).map_err(io::Error::from))?;
    rustix::process::chdir("/")?;
    step("set limits", limit_by(&spec))?;
    step("give up privileges", drop_privileges(spec.uid))?;
    end_with_parent()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on, what this process says comes as messages only: text could be the registry's.
    rustix::stdio::dup2_stderr(&null)?;
    drop(null);
    let reply = server.try_clone()?;
    // The runtime has made what it waits with; from here on it only uses it.
    step("give up system calls", allow_network_client())?;
    let message = match runtime.block_on(fetch(spec, reach, tls, server)) {
        Ok(()) => FromChild::Done,
        Err(failure) => FromChild::Failed(failure),
    };
    messages::send(reply.as_fd(), &message, None)
}

fn leave() -> io::Result<()> {
    end_with_parent()?;
    rustix::process::setsid()?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT)
}

fn tls(ca_bundle: Option<&Path>) -> io::Result<Arc<rustls::ClientConfig>> {
    let mut authorities = RootCertStore::empty();
    // Those that cannot be used are left out, as everywhere.
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_bundle {
        let certificates = CertificateDer::pem_file_iter(path).map_err(io::Error::other)?;
        authorities.add_parsable_certificates(certificates.flatten());
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn limit_by(spec: &PullSpec) -> io::Result<()> {
    let largest_file = spec.limits.image_bytes.max(crate::spec::MANIFEST_BYTES);
    limit([
        (Resource::Data, MEMORY_BYTES),
        (Resource::Fsize, largest_file),
        (Resource::Nofile, DESCRIPTORS),
        (Resource::Nproc, 0),
        (Resource::Core, 0),
        (Resource::Cpu, spec.limits.seconds),
    ])
}

async fn fetch(
    spec: PullSpec,
    reach: Reach,
    tls: Arc<rustls::ClientConfig>,
    server: OwnedFd,
) -> Result<(), Failure> {
    let registry = Url::parse(&spec.registry).map_err(|_| Failure::Refused)?;
    let mut repository = Repository {
        http: Http {
            dial: Dialer {
                reach: reach.clone(),
                relay: SocketAddr::from((RESOLVER_ADDRESS, 53)),
                server: server.try_clone().map_err(|_| Failure::Setup)?,
            },
            tls,
            origins: Origins::new(&registry, spec.from_operator)?,
            proxy: spec.proxy,
            reach,
            kept: None,
        },
        registry,
        name: spec.repository,
        login: spec.login,
        authorization: None,
    };
    let manifest = manifest_in_time(&mut repository, &spec.reference, spec.limits.image_bytes).await?;
    let resolved = Resolved { digest: manifest.digest.hex().to_owned(), bytes: manifest.image.bytes() };
    messages::send(server.as_fd(), &FromChild::Resolved(resolved), None).map_err(|_| Failure::Setup)?;
    match messages::receive(server.as_fd()) {
        Ok((FromParent::Proceed, None)) => {}
        _ => return Err(Failure::Setup),
    }
    let layout = Layout::create(PathBuf::from("/")).map_err(|_| Failure::Disk)?;
    repository.blobs(&manifest.image, &layout).await?;
    layout.finish(&manifest.bytes, manifest.image.media_type).map_err(|_| Failure::Disk)
}

/// The manifest, with tokens, redirects and whatever else comes before it, within
/// [`MANIFEST_SECONDS`].
pub(crate) async fn manifest_in_time<D: Dial>(
    repository: &mut Repository<D>,
    reference: &str,
    image_bytes: u64,
) -> Result<Manifest, Failure> {
    tokio::time::timeout(Duration::from_secs(MANIFEST_SECONDS), repository.manifest(reference, image_bytes))
        .await
        .map_err(|_| Failure::TooSlow)?
}
