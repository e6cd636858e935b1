//! Chores of this repository: `cargo xtask tidy`.
//!
//! Reading order: [`tidy`] (the checks, a file each), then what they look at: [`tree`] (files),
//! [`workspace`] (crates), [`modules`] and [`source`] (Rust).

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program that reports")]

mod modules;
mod paths;
mod source;
mod tidy;
mod tree;
mod workspace;

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use crate::tree::Tree;
use crate::workspace::Package;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    match std::env::args().nth(1).as_deref() {
        Some("tidy") => {}
        _ => bail!("usage: cargo xtask tidy"),
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent")?;
    let tree = Tree::read(root).context("the tree cannot be read")?;
    let packages = Package::of_workspace(root)?;
    let findings = tidy::check(&tree, &packages);
    for finding in &findings {
        println!("{finding}");
    }
    Ok(if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
