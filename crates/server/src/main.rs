//! The program `hearth`: the server, and the command line that talks to it.

mod access;
mod adapters;
mod api_config;
mod api_listener;
mod api_places;
mod api_progress;
mod backup;
mod build_config;
mod cache_dir;
mod certificate;
mod config;
mod config_checks;
mod data_dir;
mod doctor;
mod endpoint_config;
mod endpoints;
mod env;
mod forwarded;
mod log_filter;
mod node;
mod open_files;
mod owned;
mod pulls;
mod quota_config;
mod retention;
mod sealing;
mod serve;
mod shared;
mod token_keys;
mod token_ring;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Stateful, isolated microVMs on your own machine, wire-compatible with AWS Lambda MicroVMs
#[derive(Debug, Parser)]
#[command(name = "hearth", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service in the foreground
    Serve(config::ServeArgs),
    /// Print the environment that AWS clients need, as export lines
    Env(env::EnvArgs),
    /// Write a data directory into one file; `tar -xf FILE -C DIR` makes it again
    Backup(backup::BackupArgs),
    /// Say what this host can do, and what to install
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Client(hearth_cli::Command),
}

fn main() -> ExitCode {
    // The server starts every VMM, every confined reader and every fetch of an image through
    // itself; nothing else may happen in those processes.
    hearth_vmm::jail::run_if_requested();
    hearth_confined::run_if_requested(&hearth_image_builder::CONFINED_WORKS);
    hearth_image_pull::run_if_requested();
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::new(error).context("cannot start the runtime")),
    };
    let result = match arguments.command {
        Command::Serve(args) => runtime.block_on(serve::run(args)).map(|()| ExitCode::SUCCESS),
        Command::Env(args) => env::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Backup(args) => backup::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Doctor { json } => runtime.block_on(doctor::run(json)),
        Command::Client(command) => runtime.block_on(hearth_cli::run(command)),
    };
    result.unwrap_or_else(|error| failed(&error))
}

#[expect(clippy::print_stderr, reason = "this is where the program speaks to its user")]
fn failed(error: &anyhow::Error) -> ExitCode {
    // An error may have words of an app's or a registry's in it.
    eprintln!("hearth: {}", hearth_api::visible(&format!("{error:#}")));
    ExitCode::FAILURE
}
