//! Starts the built app in a clean microVM, waits until it is ready, and takes the snapshot that clones start from.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use hearth_api::{HookState, ImageArn, ImageConfiguration, ImageVersion};
use hearth_guest::guest::{ROOT_DISK, ask};
use hearth_guest::{Guest, GuestFactory, GuestPlan, Limits, RootDisk};
use hearth_guest_protocol::client::Replies;
use hearth_guest_protocol::{AppSpec, Capabilities, HookResult, Reply, Request};
use hearth_vmm::snapshot::SnapshotDisk;
use hearth_vmm::{SnapshotInfo, SnapshotTarget, Vm};
use serde::Deserialize;
use tokio::time::Instant;

use crate::build_log::BuildLog;
use crate::builder::not_up;
use crate::container_build::egress;
use crate::failure::{BuildFailure, FailureCode};

const START_TIMEOUT: Duration = Duration::from_mins(1);
/// Default of `readyTimeoutInSeconds` (behaviour.md section 0).
const READY_TIMEOUT_SECONDS: u32 = 60;
const READY_PATH: &str = "/aws/lambda-microvms/runtime/v1/ready";
/// A guest that used less than this share of one CPU over [`QUIET_WINDOW`] has finished starting.
const QUIET_SHARE: f64 = 0.2;
const QUIET_WINDOW: Duration = Duration::from_secs(1);
/// Longest wait for a guest to become quiet; an app that is always busy is snapshotted then.
const QUIET_LIMIT: Duration = Duration::from_secs(30);

/// What a snapshot is taken of.
#[derive(Debug)]
pub(crate) struct ImageSnapshot<'a> {
    pub(crate) name: String,
    pub(crate) arn: &'a ImageArn,
    pub(crate) version: ImageVersion,
    pub(crate) configuration: &'a ImageConfiguration,
    /// Root disk that the build made.
    pub(crate) disk: &'a Path,
    /// Directory of the snapshot to be.
    pub(crate) directory: &'a Path,
    pub(crate) vcpu_count: u8,
    pub(crate) memory_mib: u32,
    /// Seconds to wait for a listening port when there is no ready hook.
    pub(crate) listen_timeout_seconds: u64,
}

/// The snapshot as taken.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TakenSnapshot {
    pub(crate) info: SnapshotInfo,
    /// Bytes of output that the app had written.
    pub(crate) output_position: u64,
}

/// Configuration of an OCI image (OCI image specification, "Image Configuration"), as far as it is used.
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
}

impl ImageSnapshot<'_> {
    /// Boots, starts, waits, snapshots; the app's output goes to `log`.
    pub(crate) async fn take(
        self,
        guests: &GuestFactory,
        oci_config: &str,
        log: &mut BuildLog,
        stopped: &tokio_util::sync::CancellationToken,
    ) -> Result<TakenSnapshot, BuildFailure> {
        let app = self.app(oci_config)?;
        std::fs::create_dir_all(self.directory)
            .map_err(|error| BuildFailure::platform("make the snapshot's directory", &error))?;
        let plan = || GuestPlan {
            name: self.name.clone(),
            vcpu_count: self.vcpu_count,
            memory_mib: self.memory_mib,
            root: Some(RootDisk::Base(self.disk.to_owned())),
            drives: Vec::new(),
            egress: egress(self.configuration),
            limits: Limits { memory_mib: Some(self.memory_mib + 1024), cpu_percent: None },
        };
        let guest = guests
            .boot_until_up(plan, Some(self.directory), stopped.cancelled())
            .await
            .map_err(|error| not_up("boot the snapshot microVM", &error))?;
        let result = tokio::select! {
            result = guest.while_it_runs(self.take_in(&guest, app, log)) => result
                .unwrap_or_else(|error| Err(BuildFailure::platform("run the snapshot microVM", &error))),
            () = stopped.cancelled() => Err(super::builder::stopped_failure()),
        };
        guest.destroy().await;
        result
    }

    async fn take_in(
        &self,
        guest: &Guest,
        app: AppSpec,
        log: &mut BuildLog,
    ) -> Result<TakenSnapshot, BuildFailure> {
        let vm = guest.vm();
        let platform = |action, error: &dyn std::error::Error| BuildFailure::platform(action, error);
        ask(vm, &Request::StartApp { app }, START_TIMEOUT).await.map_err(|error| {
            BuildFailure::new(FailureCode::NotReady, format!("The container could not be started: {error}."))
        })?;
        let mut output = Output { log, position: 0 };
        let ready = tokio::select! {
            ready = self.wait_until_ready(guest) => ready,
            error = output.copy(vm) => Err(error),
        };
        output.drain(vm).await;
        ready?;
        ask(vm, &Request::PrepareSnapshot, START_TIMEOUT)
            .await
            .map_err(|error| platform("prepare the guest for its snapshot", &error))?;
        output.drain(vm).await;
        let position = output.position;
        vm.pause().await.map_err(|error| platform("pause the snapshot microVM", &error))?;
        let disk = SnapshotDisk { drive_id: ROOT_DISK.to_owned(), path: self.disk.to_owned() };
        let target = SnapshotTarget::Base { directory: self.directory.to_owned(), disks: vec![disk] };
        let info =
            vm.create_snapshot(&target).await.map_err(|error| platform("take the snapshot", &error))?;
        Ok(TakenSnapshot { info, output_position: position })
    }

    async fn wait_until_ready(&self, guest: &Guest) -> Result<(), BuildFailure> {
        let hooks = self.configuration.hooks.as_ref();
        let image_hooks = hooks.and_then(|hooks| hooks.microvm_image_hooks.as_ref());
        let ready = image_hooks.filter(|hooks| hooks.ready == Some(HookState::Enabled));
        if let (Some(ready), Some(port)) = (ready, hooks.and_then(|hooks| hooks.port)) {
            let seconds = ready.ready_timeout_in_seconds.unwrap_or(READY_TIMEOUT_SECONDS);
            tokio::select! {
                result = poll_ready_hook(guest, port, seconds) => result,
                failure = container_exit(guest) => Err(failure),
            }
        } else {
            self.wait_for_listener(guest).await?;
            tokio::select! {
                () = wait_until_quiet(guest) => Ok(()),
                failure = container_exit(guest) => Err(failure),
            }
        }
    }

    async fn wait_for_listener(&self, guest: &Guest) -> Result<(), BuildFailure> {
        let request = Request::WaitListening { timeout_ms: self.listen_timeout_seconds * 1000 };
        let patience = Duration::from_secs(self.listen_timeout_seconds + 30);
        match ask(guest.vm(), &request, patience).await {
            Ok(Reply::Exited { code }) => Err(exited(code)),
            Ok(_) => Ok(()),
            Err(error) => Err(BuildFailure::platform("watch the app in the snapshot microVM", &error)),
        }
    }

    fn app(&self, oci_config: &str) -> Result<AppSpec, BuildFailure> {
        let image: OciImage = serde_json::from_str(oci_config)
            .map_err(|error| BuildFailure::platform("read the configuration of the built image", &error))?;
        let OciConfig { entrypoint, cmd, env, working_dir, user } = image.config;
        let argv: Vec<String> =
            entrypoint.unwrap_or_default().into_iter().chain(cmd.unwrap_or_default()).collect();
        if argv.is_empty() {
            return Err(BuildFailure::new(
                FailureCode::NotReady,
                "The Dockerfile has neither ENTRYPOINT nor CMD: there is nothing to start.",
            ));
        }
        let all = self.configuration.additional_os_capabilities.as_ref().is_some_and(|list| !list.is_empty());
        Ok(AppSpec {
            root_disk: ROOT_DISK.to_owned(),
            argv,
            env: self.environment(env.unwrap_or_default()),
            working_dir: working_dir.unwrap_or_default(),
            user: user.unwrap_or_default(),
            hostname: "localhost".to_owned(),
            capabilities: if all { Capabilities::All } else { Capabilities::Default },
        })
    }

    /// The image's environment, the version's own on top, and what the service injects (behaviour.md section 1).
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

/// Resolves only when the app has ended.
async fn container_exit(guest: &Guest) -> BuildFailure {
    loop {
        match ask(guest.vm(), &Request::WaitExit, Duration::from_hours(1)).await {
            Ok(Reply::Exited { code }) => return exited(code),
            Ok(_) | Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Calls the ready hook until it answers 200: 503 and refused connections mean "not yet", anything else fails at once
/// (behaviour.md section 2).
async fn poll_ready_hook(guest: &Guest, port: u16, timeout_seconds: u32) -> Result<(), BuildFailure> {
    let deadline = Instant::now() + Duration::from_secs(timeout_seconds.into());
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        let request = Request::Hook {
            port,
            path: READY_PATH.to_owned(),
            body: String::new(),
            timeout_ms: left.as_millis() as u64,
        };
        let kind = match ask(guest.vm(), &request, left + Duration::from_secs(10)).await {
            Ok(Reply::Hook(HookResult::Status { code: 200 })) => return Ok(()),
            Ok(Reply::Hook(HookResult::Status { code: 400..=499 })) => "client error (HTTP 4xx)",
            Ok(Reply::Hook(HookResult::Status { code })) if code != 503 => "server error (HTTP 5xx)",
            Ok(_) => {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            Err(error) => return Err(BuildFailure::platform("call the ready hook", &error)),
        };
        return Err(BuildFailure::new(
            FailureCode::NotReady,
            format!("Ready hook check failed: the application returned a {kind} response"),
        ));
    }
    Err(BuildFailure::new(
        FailureCode::NotReady,
        format!("Ready hook invocation timed out after {}", iso_duration(timeout_seconds)),
    ))
}

/// Waits until the guest's CPUs are idle: a server that listens may still be starting its workers.
async fn wait_until_quiet(guest: &Guest) {
    let Some(pid) = guest.vm().pid() else { return };
    let deadline = Instant::now() + QUIET_LIMIT;
    let mut before = cpu_seconds(pid);
    while Instant::now() < deadline {
        tokio::time::sleep(QUIET_WINDOW).await;
        let now = cpu_seconds(pid);
        match (before, now) {
            (Some(before), Some(now)) if (now - before) / QUIET_WINDOW.as_secs_f64() < QUIET_SHARE => return,
            (_, None) => return,
            _ => before = now,
        }
    }
}

/// CPU seconds that a process has used (proc_pid_stat(5), fields 14 and 15, in clock ticks of 1/100 s).
fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / 100.0)
}

/// `PT1M30S` for 90: the form of the service's sentence.
fn iso_duration(seconds: u32) -> String {
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let part = |value: u32, unit: char| if value == 0 { String::new() } else { format!("{value}{unit}") };
    format!("PT{}{}{}", part(hours, 'H'), part(minutes, 'M'), part(rest, 'S'))
}

/// Copies the app's output into the build log.
struct Output<'a> {
    log: &'a mut BuildLog,
    position: u64,
}

impl Output<'_> {
    /// Runs until the connection breaks, which it does not while the guest lives.
    async fn copy(&mut self, vm: &std::sync::Arc<dyn Vm>) -> BuildFailure {
        loop {
            let stream = match vm.connect_guest().await {
                Ok(stream) => stream,
                Err(error) => return BuildFailure::platform("reach the snapshot microVM", &error),
            };
            if let Ok(mut replies) = Replies::request(stream, &Request::Output { from: self.position }).await
            {
                while let Ok(Some(reply)) = replies.next().await {
                    self.take(&reply).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Copies what is there already.
    async fn drain(&mut self, vm: &std::sync::Arc<dyn Vm>) {
        let Ok(stream) = vm.connect_guest().await else { return };
        let Ok(mut replies) = Replies::request(stream, &Request::Output { from: self.position }).await else {
            return;
        };
        let pause = Duration::from_millis(300);
        while let Ok(Ok(Some(reply))) = tokio::time::timeout(pause, replies.next()).await {
            self.take(&reply).await;
        }
    }

    async fn take(&mut self, reply: &Reply) {
        if let Reply::Output { position, data, .. } = reply {
            self.log.write(data).await;
            self.position = position + data.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_the_service_writes_them() {
        assert_eq!(iso_duration(300), "PT5M");
        assert_eq!(iso_duration(90), "PT1M30S");
        assert_eq!(iso_duration(3600), "PT1H");
    }
}
