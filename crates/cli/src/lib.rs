//! The command line: a client of the public API.
//!
//! Commands make signed HTTP calls as any AWS client does. They read the server's data directory
//! only for its address and the key to sign with ([`connection`]).
//!
//! Reading order: [`connection`], [`client`], [`microvms`], [`images`], [`logs`], then a file per
//! command in [`commands`].

mod archive;
mod client;
mod commands;
mod connection;
mod dockerignore;
mod endpoint;
mod following;
mod forward;
mod images;
mod items;
mod logs;
mod microvms;
mod net;
mod render;
mod resolve;
mod storage;
mod terminal;

use std::io;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use client::Client;
use commands::{
    counters, curl, egress, events, forward as forward_ports, image_build, image_delete, image_report,
    images as list_images, logs as show_logs, ps, run as run_microvm, shell,
};
use commands::{state, token};
use connection::ConnectionArgs;

/// What a client of the API can do; `hearth` adds these to its own commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build, delete and inspect microVM images
    #[command(subcommand)]
    Image(ImageCommand),
    /// List microVM images
    Images(Connected<list_images::ImagesArgs>),
    /// Launch a microVM from an image
    Run(Connected<run_microvm::RunArgs>),
    /// List microVMs
    Ps(Connected<ps::PsArgs>),
    /// Print what has changed, and why
    Events(Connected<events::EventsArgs>),
    /// Send an HTTP request to a microVM
    Curl(Connected<curl::CurlArgs>),
    /// Open a shell in a microVM that was launched with SHELL_INGRESS
    Shell(Connected<shell::ShellArgs>),
    /// Make ports of a microVM ports of this machine
    Forward(Connected<forward_ports::ForwardArgs>),
    /// Write microVMs to disk and end their processes
    Suspend(Connected<state::StateArgs>),
    /// Let suspended microVMs run on
    Resume(Connected<state::StateArgs>),
    /// End microVMs for good
    Terminate(Connected<state::StateArgs>),
    /// Show the output of a microVM, or of the builds and microVMs of an image
    Logs(Connected<show_logs::LogsArgs>),
    /// Show what has gone through a microVM's endpoint
    Counters(Connected<counters::CountersArgs>),
    /// Say what microVMs may reach, and see what they have tried
    #[command(subcommand)]
    Egress(egress::EgressCommand),
    /// Print a token that opens a microVM's endpoint, or revoke tokens
    Token(token::TokenCommand),
}

/// What can be done to images.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Build an image from a directory with a Dockerfile
    Build(Connected<image_build::BuildArgs>),
    /// Delete an image
    Delete(Connected<image_delete::DeleteArgs>),
    /// Show what the snapshot of an image holds
    Report(Connected<image_report::ReportArgs>),
}

/// The arguments of a command that talks to a server.
#[derive(Debug, Args)]
pub struct Connected<T: Args> {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    args: T,
}

impl<T: Args> Connected<T> {
    fn open(self) -> anyhow::Result<(Client, T)> {
        Ok((Client::new(self.connection.resolve()?), self.args))
    }
}

/// Carries out `command`. An error is meant to be printed as one sentence, its causes
/// after colons (`{:#}`).
pub async fn run(command: Command) -> anyhow::Result<ExitCode> {
    let result = match command {
        Command::Image(ImageCommand::Build(command)) => {
            let (client, args) = command.open()?;
            Box::pin(image_build::run(&client, args)).await
        }
        Command::Image(ImageCommand::Delete(command)) => {
            let (client, args) = command.open()?;
            image_delete::run(&client, args).await
        }
        Command::Image(ImageCommand::Report(command)) => {
            let (client, args) = command.open()?;
            image_report::run(&client, &args).await
        }
        Command::Images(command) => {
            let (client, args) = command.open()?;
            list_images::run(&client, &args).await
        }
        Command::Run(command) => {
            let (client, args) = command.open()?;
            Box::pin(run_microvm::run(&client, args)).await
        }
        Command::Ps(command) => {
            let (client, args) = command.open()?;
            ps::run(&client, &args).await
        }
        Command::Events(command) => {
            let (client, args) = command.open()?;
            events::run(&client, args).await
        }
        Command::Curl(command) => {
            let (client, args) = command.open()?;
            Box::pin(curl::run(&client, args)).await
        }
        Command::Shell(command) => {
            let (client, args) = command.open()?;
            Box::pin(shell::run(&client, args)).await
        }
        Command::Forward(command) => {
            let (client, args) = command.open()?;
            Box::pin(forward_ports::run(client, args)).await
        }
        Command::Suspend(command) => change_state(command, state::Change::Suspend).await,
        Command::Resume(command) => change_state(command, state::Change::Resume).await,
        Command::Terminate(command) => change_state(command, state::Change::Terminate).await,
        Command::Logs(command) => {
            let (client, args) = command.open()?;
            Box::pin(show_logs::run(&client, args)).await
        }
        Command::Counters(command) => {
            let (client, args) = command.open()?;
            counters::run(&client, &args).await
        }
        Command::Egress(command) => egress::run(command).await,
        Command::Token(command) => token::run(command).await,
    };
    match result {
        // `hearth logs … | head` is no failure.
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        other => other,
    }
}

async fn change_state(
    command: Connected<state::StateArgs>,
    change: state::Change,
) -> anyhow::Result<ExitCode> {
    let (client, args) = command.open()?;
    state::run(&client, args, change).await
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
