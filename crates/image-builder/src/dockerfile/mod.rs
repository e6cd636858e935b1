//! A bounded look at a Dockerfile, before a build microVM reads it.
//!
//! The builder in the microVM decides what a Dockerfile means. This scan only
//! - hints which images the build will ask for, so that they are there at once (an image that it misses is named by the builder, and the
//!   build runs again with it),
//! - refuses at once what no builder takes,
//! - words differently what `BuildKit` takes and the builder does not ([`rewrite`]).
//!
//! It is a pure function of the text, called in the confined process that reads the zip. Its time is linear in the text's length, and what variables expand to is limited: three hundred
//! bytes of ARG lines can stand for terabytes.

mod chmod;
mod expand;
mod instruction;
mod lines;
mod rewrite;
mod stages;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::failure::{BuildFailure, FailureCode};

/// What the scan found.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scan {
    /// Images that the last stage needs and that are no stages: those of FROM, COPY --from and RUN --mount=from=.
    pub images: BTreeSet<String>,
    /// The Dockerfile in words that the builder takes; `None` when it is right as it is.
    pub rewritten: Option<String>,
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
    #[error("line {line}: its variables expand to more than {limit} bytes, counting the lines before")]
    TooLarge { line: usize, limit: usize },
}

/// Looks at a Dockerfile.
pub(crate) fn scan(text: &str) -> Result<Scan, BuildFailure> {
    look_at(text).map_err(|error| {
        BuildFailure::new(
            FailureCode::ContainerBuildFailed,
            format!("The Dockerfile cannot be built: {error}."),
        )
    })
}

fn look_at(text: &str) -> Result<Scan, ScanError> {
    let file = lines::read(text)?;
    let stages = stages::Stages::of(&file.instructions)?;
    let rewritten = rewrite::rewrite(&file, &stages);
    Ok(Scan { images: stages.images(), rewritten })
}
