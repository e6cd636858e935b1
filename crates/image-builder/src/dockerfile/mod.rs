//! A bounded look at a Dockerfile, before a build microVM reads it.
//!
//! The builder in the microVM decides what a Dockerfile means. This scan only
//! - hints which images the build will ask for, so that they are there at once (an image that it
//!   misses is named by the builder, and the build runs again with it),
//! - refuses at once what no builder takes,
//! - words differently what `BuildKit` takes and the builder does not ([`rewrite`]).
//!
//! It is a pure function of the text, called in the confined process that reads the zip. Its time
//! is linear in the text's length, and what variables expand to is limited: three hundred bytes of
//! ARG lines can stand for terabytes.

mod chmod;
mod declared;
mod expand;
mod glob;
mod globals;
mod instruction;
mod lines;
mod modes;
mod platform;
mod refusals;
mod rewrite;
mod stages;
mod substitution;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_builder;
#[cfg(test)]
mod tests_shell;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub(crate) use self::substitution::HELPER;
use crate::failure::{BuildFailure, FailureCode};

/// What the scan found.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Images that the last stage needs and that are no stages: those of FROM, COPY --from
    /// and RUN --mount=from=.
    pub images: BTreeSet<String>,
    /// The Dockerfile in words that the builder takes; `None` when it is right as it is.
    pub rewritten: Option<String>,
    /// An image that is needed for another platform. `rewritten` takes this machine's instead.
    pub other_platform: Option<OtherPlatform>,
}

/// `FROM --platform` with a platform that is not this machine's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OtherPlatform {
    /// Number of the line, from 1.
    pub line: usize,
    /// As it is named, its variables replaced.
    pub platform: String,
}

impl OtherPlatform {
    /// The failure of the build, where no image may stand for one of another architecture.
    pub(crate) fn failure(&self) -> BuildFailure {
        let Self { line, platform } = self;
        let (platform, own): (String, _) = (platform.chars().take(40).collect(), platform::own());
        refused(&format!(
            "line {line}: FROM asks for an image for {platform}, and images are built here for {own}, the architecture of \
             this host; leave --platform out, or write --platform=$TARGETPLATFORM"
        ))
    }
}

/// Why a Dockerfile cannot be built, whatever the builder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("it has no FROM instruction")]
    NoFrom,
    #[error("it has more than {limit} instructions")]
    TooMany { limit: usize },
    #[error("line {line}: there is no instruction {word:?}")]
    UnknownInstruction { line: usize, word: String },
    #[error("line {line}: {word} comes before the first FROM, where only ARG may stand")]
    BeforeFrom { line: usize, word: String },
    #[error("line {line}: the here-document that {name:?} ends has no end")]
    OpenHeredoc { line: usize, name: String },
    #[error(
        "line {line}: the builder does not read {construct} as BuildKit does; write the value out, or work it out in a RUN line"
    )]
    Substitution { line: usize, construct: String },
    #[error(
        "line {line}: ARG gives {name} another value than the {value:?} that the builder gives it; use a name of its own for that value"
    )]
    Automatic { line: usize, name: String, value: String },
    #[error(
        "line {line}: the builder has no git to fetch {repository} with; ADD an archive of the repository (on GitHub, \
         https://github.com/OWNER/REPOSITORY/archive/REVISION.tar.gz), or clone it in a RUN line of an image with git"
    )]
    Git { line: usize, repository: String },
    #[error("line {line}: the builder does not take {flag} of {word}")]
    Flag { line: usize, flag: String, word: &'static str },
    #[error("line {line}: its variables expand to more than {limit} bytes, counting the lines before")]
    TooLarge { line: usize, limit: usize },
}

/// Looks at a Dockerfile.
pub(crate) fn scan(text: &str) -> Result<Scan, BuildFailure> {
    look_at(text).map_err(|error| refused(&error.to_string()))
}

fn refused(why: &str) -> BuildFailure {
    BuildFailure::new(FailureCode::ContainerBuildFailed, format!("The Dockerfile cannot be built: {why}."))
}

fn look_at(text: &str) -> Result<Scan, ScanError> {
    let file = lines::read(text)?;
    let stages = stages::Stages::of(&file.instructions)?;
    if let Some(refusal) = stages.refusal() {
        return Err(refusal.clone());
    }
    let rewritten = rewrite::rewrite(&file, &stages)?;
    Ok(Scan { images: stages.images(), rewritten, other_platform: stages.other_platform() })
}
