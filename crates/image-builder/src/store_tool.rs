//! Makes a store disk of an OCI layout by `guest/store-image.sh`, which never runs or unpacks anything of it as root.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::process::Command;

use crate::failure::{BuildFailure, FailureCode};

/// What the program says at most, in bytes.
const SAID_BYTES: usize = 4096;

/// The program and all that it has started; ended when this is dropped.
#[derive(Debug)]
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // An error says that there is nobody left.
        let _ = rustix::process::kill_process_group(self.0, Signal::KILL);
    }
}

/// Runs `program` for at most `time`. What it works on lies beside `store`, and goes with the directory that they are in.
pub(crate) async fn make_store(
    program: &Path,
    layout: &Path,
    name: &str,
    store: &Path,
    unpacked_bytes: u64,
    time: Duration,
) -> Result<(), BuildFailure> {
    let platform = |error: &dyn std::error::Error| BuildFailure::platform("run guest/store-image.sh", error);
    let configured = std::env::var("HEARTH_MAX_IMAGE_BYTES").ok().and_then(|text| text.parse().ok());
    // The tool's own users have to read what it makes; the server's umask is for the server's files.
    let child = Command::new("sh")
        .args(["-c", r#"umask 022 && exec "$0" "$@""#])
        .arg(program)
        .args([layout.as_os_str(), name.as_ref(), store.as_os_str()])
        .env("HEARTH_MAX_IMAGE_BYTES", configured.unwrap_or(u64::MAX).min(unpacked_bytes).to_string())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| platform(&error))?;
    let group = child.id().and_then(|id| Pid::from_raw(id as i32)).map(Group);
    let unusable = |detail: &str| {
        let detail = detail.trim().trim_end_matches('.');
        BuildFailure::new(
            FailureCode::ContainerBuildFailed,
            format!("The base image {name} could not be used: {detail}."),
        )
    };
    let output = tokio::time::timeout(time, child.wait_with_output())
        .await
        .map_err(|_| unusable("it takes too long to unpack"))?
        .map_err(|error| platform(&error))?;
    // It has ended by itself, and its number may be another's from here on.
    std::mem::forget(group);
    if output.status.success() {
        return Ok(());
    }
    let said = &output.stderr[output.stderr.len().saturating_sub(SAID_BYTES)..];
    Err(unusable(&String::from_utf8_lossy(said)))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn a_conversion_that_is_given_up_leaves_no_process() {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("tool");
        let (layout, store) = (directory.path().join("layout"), directory.path().join("store"));
        // Its child writes its id, and then waits for longer than any test.
        std::fs::write(&program, "#!/bin/sh\nsh -c 'echo $$ >\"$0\"; exec sleep 1000' \"$3\"\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let making = make_store(&program, &layout, "x", &store, 1, Duration::from_secs(1000));
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
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("tool");
        let path = directory.path().join("x");
        for (script, time, expected) in [
            ("sleep 1000", Duration::from_millis(20), "takes too long"),
            (
                "echo not a usable image: x >&2; exit 1",
                Duration::from_secs(1000),
                "used: not a usable image: x.",
            ),
        ] {
            std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
            std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
            let failure = make_store(&program, &path, "x", &path, 1, time).await.unwrap_err();
            assert!(failure.message.contains(expected), "{failure}");
        }
    }
}
