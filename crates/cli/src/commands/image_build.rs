//! `hearth image build`: packs, uploads, creates, and follows the build.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use hearth_api::{AccountId, Architecture, ImageArn, ImageName, managed_base_image_arn};
use serde_json::{Map, Value, json};

use super::image_delete::wait_until_gone;
use crate::archive;
use crate::client::Client;
use crate::images::{self, Image};
use crate::logs::{LogEvent, LogTail, group_of_image};
use crate::render;
use crate::storage;

mod progress;

use progress::Progress;

/// Between two looks at a build.
const POLL_INTERVAL: Duration = Duration::from_millis(400);

/// Arguments of `hearth image build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Directory with a Dockerfile; `.dockerignore` is respected
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Name of the image: letters, digits, - and _
    #[arg(short, long)]
    name: String,
    /// Memory of each microVM in MiB: 512, 1024, 2048, 4096 or 8192; it may grow to
    /// four times as much
    #[arg(short, long, default_value_t = 512, value_name = "MIB")]
    memory: u32,
    /// A variable of the app's environment, KEY=VALUE; may be given several times
    #[arg(short = 'e', long = "env", value_name = "KEY=VALUE", value_parser = parse_variable)]
    variables: Vec<(String, String)>,
    /// Take the snapshot when the ready hook on this port answers 200, not when the
    /// app first listens
    #[arg(long, value_name = "PORT")]
    ready_port: Option<u16>,
    /// Take the snapshot when the app listens on this port, rather than on one that the
    /// Dockerfile exposes, or on any
    #[arg(long, value_name = "PORT", conflicts_with = "ready_port")]
    port: Option<u16>,
    /// How long the ready hook may take
    #[arg(long, value_name = "SECONDS", requires = "ready_port")]
    ready_timeout: Option<u32>,
    /// Free text that is kept with the image
    #[arg(long)]
    description: Option<String>,
    /// Role that may read the upload; the account itself by default, for the root user only
    #[arg(long, value_name = "ARN")]
    build_role: Option<String>,
    /// Delete an image of this name first, instead of adding a version to it
    #[arg(long)]
    replace: bool,
    /// Print GetMicrovmImageBuild's JSON at the end, and nothing else on standard output
    #[arg(long)]
    json: bool,
}

/// Builds an image, or another version of it; exit code 1 when the build fails.
pub(crate) async fn run(client: &Client, args: BuildArgs) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let progress = Progress::new();
    progress.step(&format!("Packing {}", args.directory.display()));
    let archive = archive::pack(&args.directory)?;
    let account = client.account().await?;
    let arn = image_arn(&client.connection().region, &account, &args.name);
    let exists = prepare(client, &arn, &args, &progress).await?;

    let zip_bytes = archive.zip.len() as u64;
    progress.step(&format!("Uploading {} files, {}", archive.files, render::bytes(zip_bytes)));
    let (bucket, key) = (format!("hearth-artifacts-{account}"), format!("{}.zip", args.name));
    storage::put_object(client, &bucket, &key, Bytes::from(archive.zip)).await?;

    let request =
        create_request(&args, &client.connection().region, &account, &format!("s3://{bucket}/{key}"));
    let begun = if exists {
        images::update(client, &arn, request).await?
    } else {
        images::create(client, request).await?
    };
    let version = begun["imageVersion"].as_str().context("the answer names no version")?;
    let begun_at = begun["updatedAt"].as_f64().unwrap_or_default();
    progress.step("Waiting for the build");
    let mut tail = LogTail::new(group_of_image(&args.name), "", begun_at);
    let image = follow(client, &arn, version, &mut tail, &progress).await?;
    let builds = images::builds(client, &arn, version).await?;
    progress.finish();
    report(&args, &image, version, &builds, started.elapsed())
}

/// Whether there is an image of the name, to which a version is to be added; with
/// `--replace` it is deleted.
async fn prepare(client: &Client, arn: &str, args: &BuildArgs, progress: &Progress) -> anyhow::Result<bool> {
    let Some(image) = images::get(client, arn).await? else { return Ok(false) };
    if image.state != "DELETING" {
        if !args.replace {
            return Ok(true);
        }
        progress.line(&format!("Deleting the image {}", args.name));
        images::delete(client, arn).await?;
    }
    wait_until_gone(client, arn).await?;
    Ok(false)
}

/// Shows the log until the version is no longer being built.
async fn follow(
    client: &Client,
    arn: &str,
    version: &str,
    tail: &mut LogTail,
    progress: &Progress,
) -> anyhow::Result<Image> {
    let mut ids: Vec<String> = Vec::new();
    loop {
        let image =
            images::get(client, arn).await?.ok_or_else(|| anyhow!("{arn} was deleted while it was built"))?;
        if ids.is_empty() {
            let builds = images::builds(client, arn, version).await?;
            ids = images::typed_builds(&builds)?.into_iter().map(|build| build.id).collect();
        }
        // The state is read before the log, so that the last look at the log comes after the end.
        for event in tail.poll(client).await? {
            if belongs_to(&event, &ids) {
                progress.log(&event.message);
            }
        }
        if !matches!(image.state.as_str(), "CREATING" | "UPDATING") {
            return Ok(image);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Whether one of the builds wrote the line: their ids end the names of their streams.
fn belongs_to(event: &LogEvent, build_ids: &[String]) -> bool {
    build_ids.iter().any(|id| event.log_stream_name.ends_with(id.as_str()))
}

fn report(
    args: &BuildArgs,
    image: &Image,
    version: &str,
    builds: &[Value],
    elapsed: Duration,
) -> anyhow::Result<ExitCode> {
    if args.json {
        render::json(builds.first().unwrap_or(&Value::Null))?;
    }
    let failed = images::typed_builds(builds)?.into_iter().find(|build| build.state == "FAILED");
    if failed.is_some() || !matches!(image.state.as_str(), "CREATED" | "UPDATED") {
        let reason =
            failed.and_then(|build| build.state_reason).unwrap_or_else(|| format!("it is {}", image.state));
        bail!("the build of {} failed: {}", args.name, reason.trim_end_matches('.'));
    }
    if !args.json {
        let seconds = elapsed.as_secs_f64();
        render::line(&format!("{} {version} is built ({seconds:.1} s)", args.name))?;
        for sizes in images::typed_builds(builds)?.into_iter().filter_map(|build| build.sizes) {
            let size = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), render::bytes);
            render::line(&format!(
                "memory {}, code {}, disk {}",
                size(sizes.memory_snapshot_size_in_bytes),
                size(sizes.code_install_size_in_bytes),
                size(sizes.disk_snapshot_size_in_bytes),
            ))?;
        }
        render::line(&image.arn)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn image_arn(region: &str, account: &str, name: &str) -> String {
    let (account, name) = (AccountId::from_stored(account), ImageName::from_stored(name));
    ImageArn { region: region.to_owned(), account, name }.to_string()
}

fn create_request(args: &BuildArgs, region: &str, account: &str, artifact_uri: &str) -> Value {
    let mut request = json!({
        "name": args.name,
        "baseImageArn": managed_base_image_arn(region),
        // The API requires a role; one that was never made stands for the account when
        // the root user names it.
        "buildRoleArn": args.build_role.clone().unwrap_or_else(|| format!("arn:aws:iam::{account}:role/hearth-build")),
        "codeArtifact": { "uri": artifact_uri },
        "cpuConfigurations": [{ "architecture": Architecture::host() }],
        "resources": [{ "minimumMemoryInMiB": args.memory }],
    });
    if let Some(description) = &args.description {
        request["description"] = json!(description);
    }
    if !args.variables.is_empty() {
        let variables: Map<String, Value> =
            args.variables.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
        request["environmentVariables"] = Value::Object(variables);
    }
    if let Some(port) = args.ready_port {
        let mut hooks = json!({ "ready": "ENABLED" });
        if let Some(seconds) = args.ready_timeout {
            hooks["readyTimeoutInSeconds"] = json!(seconds);
        }
        request["hooks"] = json!({ "port": port, "microvmImageHooks": hooks });
    } else if let Some(port) = args.port {
        request["hooks"] = json!({ "port": port });
    }
    request
}

fn parse_variable(text: &str) -> anyhow::Result<(String, String)> {
    let (key, value) = text.split_once('=').ok_or_else(|| anyhow!("a variable has the form KEY=VALUE"))?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> BuildArgs {
        BuildArgs {
            directory: PathBuf::from("."),
            name: "app".to_owned(),
            memory: 1024,
            variables: vec![parse_variable("A=b=c").unwrap()],
            ready_port: None,
            port: None,
            ready_timeout: None,
            description: None,
            build_role: None,
            replace: false,
            json: false,
        }
    }

    #[test]
    fn hooks_are_only_asked_for_when_wanted() {
        let mut args = args();
        let request = create_request(&args, "us-east-1", "000000000000", "s3://b/k");
        assert_eq!(request["environmentVariables"], json!({ "A": "b=c" }));
        assert_eq!(request["resources"], json!([{ "minimumMemoryInMiB": 1024 }]));
        assert_eq!(request["baseImageArn"], "arn:aws:lambda:us-east-1:aws:microvm-image:al2023-1");
        assert!(request.get("hooks").is_none() && request.get("description").is_none());
        args.port = Some(3000);
        assert_eq!(
            create_request(&args, "us-east-1", "000000000000", "s3://b/k")["hooks"],
            json!({ "port": 3000 })
        );
        args.ready_port = Some(9000);
        args.ready_timeout = Some(30);
        let hooks = json!({
            "port": 9000, "microvmImageHooks": { "ready": "ENABLED", "readyTimeoutInSeconds": 30 },
        });
        assert_eq!(create_request(&args, "us-east-1", "000000000000", "s3://b/k")["hooks"], hooks);
    }

    #[test]
    fn lines_of_other_builds_are_not_shown() {
        let event = LogEvent {
            log_stream_name: "2026/01/01[1.0]snapshot-b1".to_owned(),
            timestamp: 0,
            message: String::new(),
            event_id: "1".to_owned(),
        };
        assert!(belongs_to(&event, &["b0".to_owned(), "b1".to_owned()]));
        assert!(!belongs_to(&event, &["b2".to_owned()]));
        assert!(!belongs_to(&event, &[]));
    }

    #[test]
    fn variables_need_an_equals_sign() {
        assert!(parse_variable("PATH").is_err());
    }
}
