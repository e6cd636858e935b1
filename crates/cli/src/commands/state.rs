//! `hearth suspend`, `hearth resume` and `hearth terminate`.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::client::Client;
use crate::microvms;
use crate::render;

/// How long `--wait` waits for each microVM.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Arguments of the three commands.
#[derive(Debug, Args)]
pub struct StateArgs {
    /// Ids of microVMs, or the beginnings of them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// Wait until it is done
    #[arg(long)]
    wait: bool,
    /// Print the API's JSON: GetMicrovm's answer for each
    #[arg(long)]
    json: bool,
}

/// What to do to microVMs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Suspend,
    Resume,
    Terminate,
}

impl Change {
    fn target(self) -> &'static str {
        match self {
            Self::Suspend => "SUSPENDED",
            Self::Resume => "RUNNING",
            Self::Terminate => "TERMINATED",
        }
    }
}

/// Changes the state of each microVM; they are waited for together.
pub(crate) async fn run(client: &Client, args: StateArgs, change: Change) -> anyhow::Result<ExitCode> {
    let mut ids = Vec::new();
    for wanted in &args.ids {
        ids.push(microvms::resolve_id(client, wanted).await?);
    }
    for id in &ids {
        match change {
            Change::Suspend => microvms::suspend(client, id).await?,
            Change::Resume => microvms::resume(client, id).await?,
            Change::Terminate => microvms::terminate(client, id).await?,
        };
    }
    for id in &ids {
        let answer = if args.wait {
            microvms::wait_for_state(client, id, change.target(), TIMEOUT).await?
        } else {
            microvms::get(client, id).await?
        };
        let state = answer["state"].as_str().unwrap_or_default();
        if args.json { render::json(&answer)? } else { render::line(&format!("{id} {state}"))? }
    }
    Ok(ExitCode::SUCCESS)
}
