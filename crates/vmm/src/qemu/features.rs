//! Which features the CPU of a guest has here, by QEMU's own word
//! (`query-cpu-model-expansion`): a snapshot that uses one which the host lacks would die of an
//! illegal instruction, or not load at all.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::Accelerator;

/// How long QEMU may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// More than this is no answer.
const MAX_ANSWER_BYTES: u64 = 1024 * 1024;

/// Features by QEMU's names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// What guests get, sorted.
    pub(super) present: Vec<String>,
    /// What QEMU knows and guests do not get.
    pub(super) absent: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "return")]
    reply: Option<Reply>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Reply {
    model: Option<Model>,
}

#[derive(Deserialize)]
struct Model {
    props: std::collections::BTreeMap<String, serde_json::Value>,
}

/// Asks QEMU; without an answer nothing is known, and nothing is refused for it.
pub(super) async fn of_guests(program: &Path, accelerator: Accelerator) -> Features {
    match tokio::time::timeout(TIMEOUT, ask(program, accelerator)).await {
        Ok(Ok(features)) => features,
        Ok(Err(error)) => {
            tracing::warn!(%error, "QEMU does not tell the features of its CPU; snapshots are not checked for them");
            Features::default()
        }
        Err(_) => {
            tracing::warn!(
                "QEMU does not tell the features of its CPU in time; snapshots are not checked for them"
            );
            Features::default()
        }
    }
}

async fn ask(program: &Path, accelerator: Accelerator) -> std::io::Result<Features> {
    let mut command = Command::new(program);
    command.args(["-no-user-config", "-nodefaults", "-display", "none", "-S", "-machine", "none"]);
    command.args(["-accel", accelerator.name(), "-qmp", "stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn()?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    };
    let model = serde_json::json!({ "name": accelerator.cpu(), "props": { "svm": false, "vmx": false } });
    let model = if accelerator.cpu_option(true) == accelerator.cpu() {
        serde_json::json!({ "name": accelerator.cpu() })
    } else {
        model
    };
    let question = serde_json::json!({
        "execute": "query-cpu-model-expansion",
        "arguments": { "type": "full", "model": model },
    });
    input.write_all(format!("{{\"execute\":\"qmp_capabilities\"}}\n{question}\n").as_bytes()).await?;
    let mut lines = BufReader::new(output.take(MAX_ANSWER_BYTES)).lines();
    while let Some(line) = lines.next_line().await? {
        let Line { reply, error } = serde_json::from_str(&line)?;
        if let Some(error) = error {
            return Err(std::io::Error::other(error.to_string()));
        }
        if let Some(Reply { model: Some(model) }) = reply {
            return Ok(sort(model));
        }
    }
    Err(std::io::ErrorKind::UnexpectedEof.into())
}

/// Only what is on or off is a feature. QEMU has some under two names, of which one is enough.
fn sort(model: Model) -> Features {
    let mut features = Features::default();
    for (name, value) in model.props {
        let name = name.replace(['_', '.'], "-");
        match value {
            serde_json::Value::Bool(true) => features.present.push(name),
            serde_json::Value::Bool(false) => drop(features.absent.insert(name)),
            _ => {}
        }
    }
    features.present.sort();
    features.present.dedup();
    features
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_on_and_what_is_off_are_told_apart() {
        let props = r#"{"props":{"sse4_1":true,"sse4.1":true,"avx2":false,"level":13,"vendor":"x"}}"#;
        let features = sort(serde_json::from_str(props).unwrap());
        assert_eq!(features.present, ["sse4-1"]);
        assert_eq!(features.absent, BTreeSet::from(["avx2".to_owned()]));
    }

    #[tokio::test]
    async fn qemu_tells_the_features_of_the_cpu_that_guests_get() {
        let Ok(program) = super::super::probe::find_program(None) else {
            eprintln!("skipped: QEMU is not installed");
            return;
        };
        let features = ask(&program, Accelerator::Tcg).await.unwrap();
        assert!(features.present.len() > 20, "{features:?}");
        if super::super::Architecture::HOST == super::super::Architecture::X86_64 {
            assert!(features.present.contains(&"avx2".to_owned()), "{features:?}");
            assert!(features.absent.contains("svm"), "no virtualization in guests: {features:?}");
        }
        assert!(features.present.iter().all(|name| !features.absent.contains(name)), "{features:?}");
        assert_eq!(of_guests(Path::new("/bin/true"), Accelerator::Tcg).await, Features::default());
    }
}
