//! Starts the built app in a clean microVM, waits until it is ready, and takes the snapshot
//! that clones start from.

use std::collections::BTreeMap;
use std::time::Duration;

use hearth_api::{ImageArn, ImageConfiguration, ImageVersion};
use hearth_guest::guest::{ROOT_DISK, ask};
use hearth_guest::{Guest, GuestFactory, KernelModules, RootDisk};
use hearth_guest_protocol::{AppSpec, Capabilities, Inspection, Reply, Request, chain};
use hearth_snapshots::ImageDraft;
use hearth_vmm::snapshot::SnapshotDisk;
use hearth_vmm::{SnapshotInfo, SnapshotTarget};
use serde::Deserialize;
use tokio::time::Instant;

use crate::app_output::AppOutput;
use crate::build_guest::{WayOut, not_up, plan, until_stopped};
use crate::build_hook::BuildHook;
use crate::build_log::BuildLog;
use crate::failure::{BuildFailure, FailureCode};
use crate::readiness::{Look, Readiness, Started};

const WATCH: &str = "watch the app in the snapshot microVM";
const START_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the agent may look at processes and their page tables; a second is usual under TCG.
const INSPECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at an app that starts.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Most ports that are looked for among those that an image exposes.
const EXPOSED_PORTS: usize = 64;

/// What a snapshot is taken of.
#[derive(Debug)]
pub(crate) struct ImageSnapshot<'a> {
    pub(crate) name: String,
    pub(crate) arn: &'a ImageArn,
    pub(crate) version: ImageVersion,
    pub(crate) configuration: &'a ImageConfiguration,
    /// Has the root disk that the build made.
    pub(crate) draft: &'a ImageDraft,
    pub(crate) vcpu_count: u8,
    pub(crate) memory_mib: u32,
    /// Seconds to wait for a listening port when there is no ready hook.
    pub(crate) listen_timeout_seconds: u64,
}

/// The snapshot as taken.
#[derive(Debug)]
pub(crate) struct TakenSnapshot {
    pub(crate) info: SnapshotInfo,
    /// What the guest said of itself right before.
    pub(crate) inspection: Inspection,
    /// The app's environment.
    pub(crate) environment: BTreeMap<String, String>,
    /// Bytes of output that the app had written.
    pub(crate) output_position: u64,
}

/// Configuration of an OCI image (OCI image specification, "Image Configuration"),
/// as far as it is used.
#[derive(Debug, Deserialize)]
struct OciImage {
    #[serde(default)]
    config: OciConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct OciConfig {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
    /// `8080/tcp` and the like, each with an empty object.
    exposed_ports: Option<serde_json::Map<String, serde_json::Value>>,
}

impl OciConfig {
    /// TCP ports that the Dockerfile exposes. A port without a protocol is one of TCP.
    fn exposed_tcp_ports(&self) -> Vec<u16> {
        let names = self.exposed_ports.iter().flatten().map(|(name, _)| name.as_str());
        names
            .filter_map(|name| match name.split_once('/') {
                None => name.parse().ok(),
                Some((port, "tcp")) => port.parse().ok(),
                Some(_) => None,
            })
            .take(EXPOSED_PORTS)
            .collect()
    }
}

impl ImageSnapshot<'_> {
    /// Boots, starts, waits, snapshots; the app's output goes to `log`.
    pub(crate) async fn take(
        self,
        (guests, way_out): (&GuestFactory, WayOut<'_>),
        oci_config: &str,
        log: &mut BuildLog,
        stopped: &tokio_util::sync::CancellationToken,
    ) -> Result<TakenSnapshot, BuildFailure> {
        let image: OciImage = serde_json::from_str(oci_config)
            .map_err(|error| BuildFailure::platform("read the configuration of the built image", &error))?;
        let exposed = self.ports_to_wait_for(&image.config);
        let app = self.app(image.config)?;
        let egress = way_out.resolve(&self.name).await?;
        let plan = || {
            let root = RootDisk::Base { path: self.draft.disk(), modules: self.modules() };
            let size = (self.vcpu_count, self.memory_mib);
            plan(&self.name, size, Some(root), egress.clone())
        };
        let guest = guests
            .boot_until_up(plan, Some(self.draft.directory()), stopped.cancelled())
            .await
            .map_err(|error| not_up("boot the snapshot microVM", &error))?;
        let _kept = way_out.keep(&self.name, &guest).await;
        let result = until_stopped(
            "run the snapshot microVM",
            &guest,
            Box::pin(self.take_in(&guest, (app, exposed), log)),
            stopped,
        )
        .await;
        guest.destroy().await;
        result
    }

    async fn take_in(
        &self,
        guest: &Guest,
        (app, exposed): (AppSpec, Vec<u16>),
        log: &mut BuildLog,
    ) -> Result<TakenSnapshot, BuildFailure> {
        let vm = guest.vm();
        let environment = app.env.clone();
        let platform = |action, error: &dyn std::error::Error| BuildFailure::platform(action, error);
        ask(vm, &Request::StartApp { app }, START_TIMEOUT).await.map_err(|error| {
            BuildFailure::new(FailureCode::NotReady, format!("The container could not be started: {error}."))
        })?;
        let mut output = AppOutput::new(log, 0);
        if let Some(started) = output.copy_during(vm, self.wait_until_ready(guest, exposed)).await? {
            output.note(&started.to_string()).await;
        }
        let inspection = inspect(guest).await;
        ask(vm, &Request::PrepareSnapshot, START_TIMEOUT)
            .await
            .map_err(|error| platform("prepare the guest for its snapshot", &error))?;
        output.drain(vm).await;
        let position = output.position();
        vm.pause().await.map_err(|error| platform("pause the snapshot microVM", &error))?;
        let disk = SnapshotDisk { drive_id: ROOT_DISK.to_owned(), path: self.draft.disk() };
        let target = SnapshotTarget::Base { directory: self.draft.directory().to_owned(), disks: vec![disk] };
        let info =
            vm.create_snapshot(&target).await.map_err(|error| platform("take the snapshot", &error))?;
        Ok(TakenSnapshot { info, inspection, environment, output_position: position })
    }

    /// Waits for the `ready` hook; without one, until the app listens and has started, and tells
    /// why it thinks so. An app that listens on nothing is given its time.
    async fn wait_until_ready(
        &self,
        guest: &Guest,
        exposed: Vec<u16>,
    ) -> Result<Option<Started>, BuildFailure> {
        if let Some(hook) = BuildHook::ready(self.configuration) {
            return tokio::select! {
                result = hook.poll(guest) => result.map(|()| None),
                failure = container_exit(guest) => Err(failure),
            };
        }
        if !self.wait_for_listener(guest).await? {
            return Ok(None);
        }
        tokio::select! {
            started = wait_until_started(guest, exposed) => started,
            failure = container_exit(guest) => Err(failure),
        }
    }

    /// Whether a port listens; if not, the time was over.
    async fn wait_for_listener(&self, guest: &Guest) -> Result<bool, BuildFailure> {
        let request = Request::WaitListening { timeout_ms: self.listen_timeout_seconds * 1000 };
        let patience = Duration::from_secs(self.listen_timeout_seconds + 30);
        match ask(guest.vm(), &request, patience).await {
            Ok(Reply::Exited { code }) => Err(exited(code)),
            Ok(reply) => Ok(matches!(reply, Reply::Listening { .. })),
            Err(error) => Err(BuildFailure::platform(WATCH, &error)),
        }
    }

    /// Ports that the app is expected to serve: the hooks' port of a version without a `ready` hook
    /// (`hearth image build --port`), else those that the Dockerfile exposes.
    fn ports_to_wait_for(&self, image: &OciConfig) -> Vec<u16> {
        match self.configuration.hooks.as_ref().and_then(|hooks| hooks.port) {
            Some(port) => vec![port],
            None => image.exposed_tcp_ports(),
        }
    }

    fn has_all_capabilities(&self) -> bool {
        self.configuration.additional_os_capabilities.as_ref().is_some_and(|list| !list.is_empty())
    }

    fn modules(&self) -> KernelModules {
        if self.has_all_capabilities() { KernelModules::All } else { KernelModules::Needed }
    }

    fn app(&self, image: OciConfig) -> Result<AppSpec, BuildFailure> {
        let OciConfig { entrypoint, cmd, env, working_dir, user, exposed_ports: _ } = image;
        let argv: Vec<String> =
            entrypoint.unwrap_or_default().into_iter().chain(cmd.unwrap_or_default()).collect();
        if argv.is_empty() {
            return Err(BuildFailure::new(
                FailureCode::NotReady,
                "The Dockerfile has neither ENTRYPOINT nor CMD: there is nothing to start.",
            ));
        }
        Ok(AppSpec {
            root_disk: ROOT_DISK.to_owned(),
            argv,
            env: self.environment(env.unwrap_or_default()),
            working_dir: working_dir.unwrap_or_default(),
            user: user.unwrap_or_default(),
            hostname: "localhost".to_owned(),
            capabilities: if self.has_all_capabilities() { Capabilities::All } else { Capabilities::Default },
        })
    }

    /// The image's environment, the version's own on top, and the variables
    /// that the service sets.
    fn environment(&self, image: Vec<String>) -> BTreeMap<String, String> {
        const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        env.extend(image.into_iter().filter_map(|entry| {
            let (name, value) = entry.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        }));
        env.extend(self.configuration.environment_variables.clone().unwrap_or_default());
        env.extend([
            ("AWS_REGION".to_owned(), self.arn.region.clone()),
            ("AWS_LAMBDA_MICROVM_IMAGE_NAME".to_owned(), self.arn.name.to_string()),
            ("AWS_LAMBDA_MICROVM_IMAGE_ARN".to_owned(), self.arn.to_string()),
            ("AWS_LAMBDA_MICROVM_IMAGE_VERSION".to_owned(), self.version.to_string()),
        ]);
        env
    }
}

fn exited(code: i32) -> BuildFailure {
    BuildFailure::new(FailureCode::NotReady, format!("Container Stopped with Exit Code: {code}"))
}

/// What the guest's agent sees of the app. A report that lacks it is better than no image.
async fn inspect(guest: &Guest) -> Inspection {
    let request = Request::Inspect { timeout_ms: INSPECT_TIMEOUT.as_millis() as u64 };
    match ask(guest.vm(), &request, INSPECT_TIMEOUT * 2).await {
        Ok(Reply::Inspection(inspection)) => inspection,
        Ok(_) => Inspection::default(),
        Err(error) => {
            tracing::warn!(error = chain(&error), "a guest could not be inspected");
            Inspection::default()
        }
    }
}

/// Resolves only when the app has ended.
pub(crate) async fn container_exit(guest: &Guest) -> BuildFailure {
    loop {
        match ask(guest.vm(), &Request::WaitExit, Duration::from_hours(1)).await {
            Ok(Reply::Exited { code }) => return exited(code),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Looks at ports and CPUs until the app has started. `None` when the VMM has no
/// process to look at.
async fn wait_until_started(guest: &Guest, exposed: Vec<u16>) -> Result<Option<Started>, BuildFailure> {
    let mut readiness = Readiness::new(exposed);
    let began = Instant::now();
    let mut before = (began, guest.vm().pid().and_then(cpu_seconds));
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        let now = (Instant::now(), guest.vm().pid().and_then(cpu_seconds));
        let (Some(used_before), Some(used)) = (before.1, now.1) else { return Ok(None) };
        let cpu_share = (used - used_before) / (now.0 - before.0).as_secs_f64();
        before = now;
        let request = Request::WaitListening { timeout_ms: 0 };
        let ports = match ask(guest.vm(), &request, START_TIMEOUT).await {
            Ok(Reply::Listening { ports, .. }) => ports,
            Ok(Reply::Exited { code }) => return Err(exited(code)),
            Ok(_) => Vec::new(),
            Err(error) => return Err(BuildFailure::platform(WATCH, &error)),
        };
        if let Some(started) = readiness.look(Look { at: now.0 - began, ports: &ports, cpu_share }) {
            return Ok(Some(started));
        }
    }
}

/// CPU seconds that a process has used (proc_pid_stat(5), fields 14 and 15, in clock
/// ticks of 1/100 s).
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}

#[cfg(test)]
mod tests {
    use hearth_api::BuildId;
    use hearth_snapshots::Snapshots;

    use super::*;

    /// What is waited for of an image with these exposed ports, and of a version with these hooks.
    fn waited_for(exposed: &serde_json::Value, hooks: &serde_json::Value) -> Vec<u16> {
        let image = serde_json::json!({ "config": { "Cmd": ["app"], "ExposedPorts": exposed } });
        let image: OciImage = serde_json::from_value(image).unwrap();
        let configuration = serde_json::json!({
            "baseImageArn": "", "buildRoleArn": "", "codeArtifact": { "uri": "" }, "hooks": hooks,
        });
        let directory = tempfile::tempdir().unwrap();
        let draft = Snapshots::open(directory.path()).unwrap().build(&BuildId::new()).image();
        let snapshot = ImageSnapshot {
            name: String::new(),
            arn: &ImageArn::parse("arn:aws:lambda:us-east-1:222222222222:microvm-image:app").unwrap(),
            version: ImageVersion::FIRST,
            configuration: &serde_json::from_value(configuration).unwrap(),
            draft: &draft,
            vcpu_count: 1,
            memory_mib: 512,
            listen_timeout_seconds: 1,
        };
        snapshot.ports_to_wait_for(&image.config)
    }

    #[test]
    fn the_ports_that_an_image_exposes_are_waited_for_unless_the_version_names_one() {
        use serde_json::{Value, json};
        let exposed = json!({ "8080/tcp": {}, "53/udp": {}, "9090": {}, "7000-7002/tcp": {} });
        assert_eq!(waited_for(&exposed, &Value::Null), [8080, 9090]);
        assert_eq!(waited_for(&exposed, &json!({ "port": 3000 })), [3000]);
        assert!(waited_for(&Value::Null, &Value::Null).is_empty());
        let many: serde_json::Map<_, _> = (1..500).map(|port| (format!("{port}/tcp"), json!({}))).collect();
        assert_eq!(waited_for(&Value::Object(many), &Value::Null).len(), EXPOSED_PORTS);
    }
}
