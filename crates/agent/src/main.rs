//! `hearth-agent`: the first process of every microVM.
//!
//! It boots the guest ([`boot`], [`network`]), serves the host on the control network ([`serve`])
//! and starts the app ([`app`]), a build ([`build`]) or a shell ([`shell`]).
//!
//! Each of these starts as a *stage*: the agent clones itself into new namespaces, and the clone
//! executes this same program under another `argv[0]` ([`children`]). Single-threaded, it sets up
//! its mounts and privileges, and then becomes the app ([`container`]), supervises the build
//! ([`build_stage`]) or becomes the shell ([`shell_stage`]).

mod app;
mod bell;
mod boot;
mod build;
mod build_stage;
mod children;
mod connections;
mod container;
mod disks;
mod endpoint_path;
mod error;
mod forward;
mod hooks;
mod incoming;
mod inspect;
mod listening;
mod mounts;
mod netlink;
mod network;
mod output;
mod pages;
mod power;
mod privileges;
mod restore;
mod serve;
mod session;
mod shell;
mod shell_stage;
mod sockets;
mod stage;
mod sysctl;
mod terminal;
mod user;

use error::Error;
use hearth_guest_protocol::chain;

fn main() {
    let name = std::env::args().next().unwrap_or_default();
    if name == children::Kind::Container.name() {
        container::main();
    }
    if name == children::Kind::Build.name() {
        build_stage::main();
    }
    if name == children::Kind::Shell.name() {
        shell_stage::main();
    }
    if std::process::id() != 1 {
        eprintln!("hearth-agent is the init of a microVM; it does nothing elsewhere");
        std::process::exit(2);
    }
    if let Err(error) = init() {
        eprintln!("hearth-agent: {}", chain(&error));
        power::halt();
    }
}

/// Boots, then reaps children for the rest of the guest's life.
fn init() -> Result<(), Error> {
    boot::boot()?;
    let app_network = network::configure()?;
    restore::prepare(&app_network)?;
    serve::start(&app_network)?;
    children::reap_forever()
}
