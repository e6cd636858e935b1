//! `hearth image report`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use serde_json::Value;

use crate::client::Client;
use crate::images;
use crate::render;

/// Arguments of `hearth image report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Name or ARN of an image
    image: String,
    /// Version, such as 2.0 [default: the latest active one]
    #[arg(long)]
    version: Option<String>,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Shows what the snapshot of a version holds.
pub(crate) async fn run(client: &Client, args: &ReportArgs) -> anyhow::Result<ExitCode> {
    let arn = images::resolve_arn(client, &args.image).await?;
    let version = match &args.version {
        Some(version) => version.clone(),
        None => latest(client, &arn).await?,
    };
    let report = images::report(client, &arn, &version).await?;
    if args.json {
        render::json(&report)?;
    } else {
        render::line(&text(&report))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn latest(client: &Client, arn: &str) -> anyhow::Result<String> {
    let image = images::get(client, arn).await?.with_context(|| format!("there is no image {arn}"))?;
    image.latest_active_image_version.context("the image has no active version; name one with --version")
}

/// The report for people.
fn text(report: &Value) -> String {
    let size = |name: &str| render::bytes(report[name].as_u64().unwrap_or_default());
    let mut lines = vec![
        format!("image      {} {}", word(&report["imageArn"]), word(&report["imageVersion"])),
        format!("memory     {} of {}", size("memorySnapshotSizeInBytes"), size("memorySizeInBytes")),
        format!("disk       {}", size("diskAllocatedInBytes")),
    ];
    for process in list(&report["processes"]) {
        let own = list(&process["ownRandomNumbers"]).map(word).collect::<Vec<_>>().join(", ");
        let own = if own.is_empty() { own } else { format!("; random numbers of its own: {own}") };
        lines.push(format!(
            "process    {} {} as {}{own}",
            process["pid"],
            word(&process["command"]),
            word(&process["user"])
        ));
    }
    for (name, sockets) in [("listening", "listening"), ("connected", "outboundConnections")] {
        lines.extend(list(&report[sockets]).map(|socket| {
            format!(
                "{name}  {} by {}",
                word(&socket["address"]),
                socket["pid"].as_u64().map_or("-".into(), |pid| pid.to_string())
            )
        }));
    }
    for finding in list(&report["findings"]) {
        let places = list(&finding["places"]).map(place).collect::<Vec<_>>().join("; ");
        let kind = word(&finding["kind"]).to_lowercase().replace('_', " ");
        lines.push(format!("found      {kind}: {places}"));
    }
    let search = &report["search"];
    lines.push(format!(
        "searched   {} files ({}) and {} of memory, in {} ms",
        search["files"],
        render::bytes(search["fileBytes"].as_u64().unwrap_or_default()),
        render::bytes(search["memoryBytes"].as_u64().unwrap_or_default()),
        search["milliseconds"],
    ));
    lines.extend(list(&search["leftOut"]).map(|sentence| format!("           {}", word(sentence))));
    lines.join("\n")
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn place(place: &Value) -> String {
    match place["type"].as_str() {
        Some("ENVIRONMENT") => format!("environment variable {}", word(&place["name"])),
        Some("FILE") => format!("file {}", word(&place["path"])),
        _ => {
            let region = place["region"].as_str().filter(|region| !region.is_empty());
            let region = region.map(|region| format!(", {region}")).unwrap_or_default();
            format!("memory of process {} ({}){region}", place["pid"], word(&place["command"]))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_shown_line_by_line() {
        let report = json!({
            "imageArn": "arn", "imageVersion": "1.0", "memorySizeInBytes": 2_147_483_648_u64,
            "memorySnapshotSizeInBytes": 1_048_576, "diskAllocatedInBytes": 512,
            "processes": [{"pid": 1, "user": "root", "command": "perl", "ownRandomNumbers": ["perl"]}],
            "listening": [{"address": "0.0.0.0:80", "pid": 1}],
            "outboundConnections": [{"address": "203.0.113.2:443", "pid": null}],
            "findings": [{"kind": "PRIVATE_KEY", "places": [
                {"type": "FILE", "path": "/key.pem"},
                {"type": "MEMORY", "pid": 1, "command": "perl", "region": "[heap]"},
                {"type": "ENVIRONMENT", "name": "KEY"},
            ]}],
            "search": {"files": 3, "fileBytes": 1024, "memoryBytes": 4096, "milliseconds": 7, "leftOut": ["Cut."]},
        });
        assert_eq!(
            text(&report).lines().collect::<Vec<_>>(),
            [
                "image      arn 1.0",
                "memory     1.0 MiB of 2.0 GiB",
                "disk       512 B",
                "process    1 perl as root; random numbers of its own: perl",
                "listening  0.0.0.0:80 by 1",
                "connected  203.0.113.2:443 by -",
                "found      private key: file /key.pem; memory of process 1 (perl), [heap]; environment variable KEY",
                "searched   3 files (1.0 KiB) and 4.0 KiB of memory, in 7 ms",
                "           Cut.",
            ]
        );
    }
}
