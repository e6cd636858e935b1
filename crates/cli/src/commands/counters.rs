//! `hearth counters`.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use hearth_api::EndpointCounters;

use crate::client::Client;
use crate::microvms;
use crate::render;

/// Arguments of `hearth counters`.
#[derive(Debug, Args)]
pub struct CountersArgs {
    /// Id of a microVM, or the beginning of it
    id: String,
    /// Print the API's JSON
    #[arg(long)]
    json: bool,
}

/// Prints what has gone through the endpoint of a microVM.
pub(crate) async fn run(client: &Client, args: &CountersArgs) -> anyhow::Result<ExitCode> {
    let id = microvms::resolve_id(client, &args.id).await?;
    let answer = microvms::endpoint_counters(client, &id).await?;
    if args.json {
        render::json(&answer)?;
    } else {
        let counters = serde_json::from_value(answer).context("the answer is not readable")?;
        render::line(&text(&counters))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn text(counters: &EndpointCounters) -> String {
    let waits = format!("{} ({} ms)", counters.resume_waits, counters.resume_wait_milliseconds);
    let lines = [
        ("since", counters.since.0.to_string()),
        ("requests", counters.requests.to_string()),
        ("errors", counters.errors.to_string()),
        ("resume waits", waits),
        ("bytes in", counters.bytes_in.to_string()),
        ("bytes out", counters.bytes_out.to_string()),
    ];
    lines.map(|(name, value)| format!("{name:<13} {value}")).join("\n")
}

#[cfg(test)]
mod tests {
    use hearth_api::Timestamp;

    use super::*;

    #[test]
    fn each_counter_has_a_line() {
        let counters = EndpointCounters {
            since: Timestamp::from_millis(0),
            requests: 1,
            errors: 2,
            resume_waits: 3,
            resume_wait_milliseconds: 4,
            bytes_in: 5,
            bytes_out: 6,
        };
        let expected = "since         1970-01-01T00:00:00Z\nrequests      1\nerrors        2\n\
                        resume waits  3 (4 ms)\nbytes in      5\nbytes out     6";
        assert_eq!(text(&counters), expected);
    }
}
