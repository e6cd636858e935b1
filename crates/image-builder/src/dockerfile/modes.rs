//! Symbolic modes for COPY and ADD, which the builder does not take: the files get theirs in a
//! stage of its own, from which they are copied then.

use std::fmt::Write as _;

use super::chmod;
use super::instruction::{self, Flag, Keyword};
use super::lines::Instruction;
use super::rewrite::Rewriter;
use super::stages::{Source, TOOLS};

/// Most stages that are added for symbolic modes.
const MAX_MODE_STAGES: usize = 64;

/// A stage that is put in for files with a symbolic mode.
#[derive(Debug)]
pub(super) struct ModeStage {
    /// The stage before which it stands.
    pub(super) before: usize,
    pub(super) text: String,
}

impl Rewriter<'_> {
    /// COPY or ADD without its symbolic mode.
    pub(super) fn with_mode(
        &mut self,
        instruction: &Instruction<'_>,
        keyword: Keyword,
        arguments: &str,
        current: usize,
    ) -> Option<String> {
        let (flags, rest) = instruction::options(arguments);
        let mode = flags.iter().find(|flag| flag.name() == "--chmod")?.value()?.trim_matches(['"', '\'']);
        if !chmod::is_symbolic(mode) || self.modes.len() == MAX_MODE_STAGES {
            return None;
        }
        let words =
            instruction::json(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
        let (target, sources) = words.split_last()?;
        if !instruction.heredocs.is_empty() {
            // Files of the context beside them would need the other way.
            let mode = (sources.len() == instruction.heredocs.len()).then(|| chmod::of_heredoc(mode))??;
            return Some(without(&flags, &["--chmod"]) + &format!("--chmod={mode} {rest}"));
        }
        if sources.is_empty()
            || !sources.iter().all(|source| is_plain(source))
            || flags.iter().any(|flag| flag.name() == "--parents")
        {
            return None;
        }
        let from = flags.iter().find(|flag| flag.name() == "--from").and_then(|flag| flag.value());
        let (stage, prefix) = match from {
            None if keyword == Keyword::Add && sources.iter().any(|source| is_unpacked(source)) => {
                return None;
            }
            None => (context_stage(mode, &flags), "/context"),
            Some(from) => (self.source_stage(mode, from, sources, current)?, ""),
        };
        let number = self.mode_stage(stage, current);
        let list = sources
            .iter()
            .map(|source| format!("{prefix}/{}", source.trim_start_matches('/')))
            .chain([target.clone()]);
        let list: Vec<_> = list.collect();
        let list = if rest.starts_with('[') { serde_json::to_string(&list).ok()? } else { list.join(" ") };
        let others = without(&flags, &["--chmod", "--from", "--exclude"]);
        Some(format!("--from=hearth-mode-{number} {others}{list}"))
    }

    /// The text of a stage in which the files of an image or another stage get the mode.
    fn source_stage(&mut self, mode: &str, from: &str, sources: &[String], current: usize) -> Option<String> {
        let base = match self.stages.source(from, current) {
            Source::Other => return None,
            Source::Image(image) => image,
            Source::Stage(stage) => self.stages.list[stage].name.clone().unwrap_or_else(|| {
                self.unnamed.insert(stage);
                unnamed(stage)
            }),
        };
        let files: Vec<_> =
            sources.iter().map(|source| format!("/{}", source.trim_start_matches('/'))).collect();
        if files
            .iter()
            .any(|file| file.contains(|c: char| !c.is_ascii_alphanumeric() && !"._/*?@+-".contains(c)))
        {
            return None;
        }
        let command = format!("/.hearth-tools/busybox chmod -R {mode} {}", files.join(" "));
        Some(format!(
            "FROM {base} AS NAME\nUSER 0\nRUN --mount=type=bind,from={TOOLS},target=/.hearth-tools [\"/.hearth-tools/busybox\", \"sh\", \"-c\", \"{command}\"]\n"
        ))
    }

    /// Number of the stage with this text.
    fn mode_stage(&mut self, text: String, before: usize) -> usize {
        if let Some(number) = self.known.get(&text) {
            return *number;
        }
        let number = self.modes.len();
        self.modes
            .push(ModeStage { before, text: text.replacen("NAME", &format!("hearth-mode-{number}"), 1) });
        self.known.insert(text, number);
        number
    }
}

/// A stage in which the files of the context have the mode.
fn context_stage(mode: &str, flags: &[Flag<'_>]) -> String {
    let mut text = "FROM scratch AS NAME\nCOPY ".to_owned();
    for Flag(flag) in flags.iter().filter(|flag| flag.name() == "--exclude") {
        let _ = write!(text, "{flag} ");
    }
    let _ = write!(
        text,
        ". /context/\nRUN --mount=type=bind,from={TOOLS},target=/.hearth-tools [\"/.hearth-tools/busybox\", \"chmod\", \"-R\", \"{mode}\", \"/context\"]\n"
    );
    text
}

pub(super) fn unnamed(stage: usize) -> String {
    format!("hearth-stage-{stage}")
}

/// The options without those of these names, each with a blank behind it.
fn without(flags: &[Flag<'_>], names: &[&str]) -> String {
    let mut text = String::new();
    for Flag(flag) in flags.iter().filter(|flag| !names.contains(&flag.name())) {
        let _ = write!(text, "{flag} ");
    }
    text
}

/// Whether a source is a path inside of what is copied from.
fn is_plain(source: &str) -> bool {
    !source.contains("..")
        && !source.contains("://")
        && !source.contains(['"', '\'', '\\', '$'])
        && !source.starts_with("git@")
}

/// Whether ADD may unpack a file of this name.
fn is_unpacked(source: &str) -> bool {
    let name = source.rsplit('/').next().unwrap_or_default().to_lowercase();
    name.contains(['*', '?', '['])
        || [".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".tbz", ".txz"]
            .iter()
            .any(|end| name.ends_with(end))
}
