//! Words a Dockerfile so that the builder (buildah 1.43) reads it as `BuildKit` does. Only lines that need it are changed:
//!
//! - FROM with its variables replaced: the builder refuses `${A-b}`,
//! - names of stages in lower case: the builder compares them exactly,
//! - `${A-b}` and `${A+b}` in a stage become `${A:-b}` and `${A:+b}`, which the builder takes,
//! - symbolic modes: the files get them in a stage of their own, from which they are copied then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::chmod;
use super::instruction::{self, Flag, Keyword};
use super::lines::{File, Instruction};
use super::stages::{Source, Stages, TOOLS};

/// Longest text that is passed to the builder: one that grows beyond stays as it is.
const MAX_BYTES: usize = 512 << 10;
/// Most stages that are added for symbolic modes.
const MAX_MODE_STAGES: usize = 64;

/// A stage that is put in for files with a symbolic mode.
#[derive(Debug)]
struct ModeStage {
    /// The stage before which it stands.
    before: usize,
    text: String,
}

#[derive(Debug)]
struct Rewriter<'a> {
    stages: &'a Stages,
    /// In the order in which they were needed.
    modes: Vec<ModeStage>,
    /// Numbers in `modes` by what is in the stage.
    known: BTreeMap<String, usize>,
    /// Stages that need a name.
    unnamed: BTreeSet<usize>,
}

/// The whole file in other words; `None` if it is right as it is.
pub(super) fn rewrite(file: &File<'_>, stages: &Stages) -> Option<String> {
    // Nothing that is put together here knows of another escape character.
    if file.escape != '\\' {
        return None;
    }
    let mut rewriter =
        Rewriter { stages, modes: Vec::new(), known: BTreeMap::new(), unnamed: BTreeSet::new() };
    let mut lines: Vec<_> = file
        .instructions
        .iter()
        .zip(&stages.of_instruction)
        .map(|(instruction, stage)| rewriter.line(instruction, *stage))
        .collect();
    if !rewriter.modes.is_empty() {
        rewriter.renumber(file, &mut lines);
    }
    if lines.iter().all(Option::is_none) {
        return None;
    }
    let mut text = file.head.to_owned();
    for ((instruction, stage), line) in file.instructions.iter().zip(&stages.of_instruction).zip(&lines) {
        if instruction.keyword == Keyword::From {
            for mode in rewriter.modes.iter().filter(|mode| Some(mode.before) == *stage) {
                text.push_str(&mode.text);
            }
        }
        match line {
            None => text.push_str(instruction.text),
            Some(line) => {
                text.push_str(line);
                text.push('\n');
                text.push_str(instruction.rest);
            }
        }
        if text.len() > MAX_BYTES {
            return None;
        }
    }
    Some(text)
}

impl Rewriter<'_> {
    /// Other words for an instruction, if it needs them.
    fn line(&mut self, instruction: &Instruction<'_>, stage: Option<usize>) -> Option<String> {
        let Instruction { keyword, arguments, .. } = instruction;
        match (keyword, stage) {
            (Keyword::From, Some(stage)) => {
                let from = &self.stages.list[stage].from;
                (from.split_whitespace().ne(arguments.split_whitespace())).then(|| format!("FROM {from}"))
            }
            (Keyword::Copy | Keyword::Add, Some(stage)) => {
                let moded = self.with_mode(instruction, stage);
                let named = self.with_names(*keyword, moded.as_deref().unwrap_or(arguments), stage);
                let text = named.or(moded);
                let softened = soften(text.as_deref().unwrap_or(arguments));
                // A file that gets its mode in a stage is never added from elsewhere.
                let keyword = if softened
                    .as_deref()
                    .or(text.as_deref())
                    .is_some_and(|text| text.contains("--from=hearth-mode-"))
                {
                    Keyword::Copy
                } else {
                    *keyword
                };
                softened.or(text).map(|text| format!("{} {text}", keyword.name()))
            }
            (Keyword::Run, Some(stage)) => {
                self.with_names(*keyword, arguments, stage).map(|text| format!("RUN {text}"))
            }
            (Keyword::Arg, _) => soften(arguments).map(|text| format!("ARG {text}")),
            (Keyword::Expanding, _) => soften(arguments).map(|text| format!("{} {text}", instruction.word)),
            _ => None,
        }
    }

    /// The arguments with the names of stages as the stages have them.
    fn with_names(&self, keyword: Keyword, arguments: &str, current: usize) -> Option<String> {
        let renamed = |from: &str| match self.stages.source(from, current) {
            Source::Stage(stage) if from.parse::<usize>().is_err() => self.stages.list[stage].name.clone(),
            _ => None,
        };
        replace_sources(keyword, arguments, &renamed)
    }

    /// COPY or ADD without its symbolic mode.
    fn with_mode(&mut self, instruction: &Instruction<'_>, current: usize) -> Option<String> {
        let (flags, rest) = instruction::options(&instruction.arguments);
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
            None if instruction.keyword == Keyword::Add
                && sources.iter().any(|source| is_unpacked(source)) =>
            {
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

    /// Adapts what names stages by their number, and gives names to stages that need one.
    fn renumber(&self, file: &File<'_>, lines: &mut [Option<String>]) {
        for ((instruction, stage), line) in
            file.instructions.iter().zip(&self.stages.of_instruction).zip(lines)
        {
            let Some(stage) = *stage else { continue };
            if instruction.keyword == Keyword::From && self.unnamed.contains(&stage) {
                let from = line.take().unwrap_or_else(|| format!("FROM {}", self.stages.list[stage].from));
                *line = Some(format!("{from} AS {}", unnamed(stage)));
                continue;
            }
            let renumbered = |from: &str| match self.stages.source(from, stage) {
                Source::Stage(number) if from.parse::<usize>().is_ok() => {
                    let added = self.modes.iter().filter(|mode| mode.before <= number).count();
                    Some((number + added).to_string())
                }
                _ => None,
            };
            let keyword = instruction.keyword;
            let arguments =
                line.as_deref().map_or(instruction.arguments.as_str(), |line| instruction::split(line).1);
            if let Some(text) = replace_sources(keyword, arguments, &renumbered) {
                *line = Some(format!("{} {text}", keyword.name()));
            }
        }
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

fn unnamed(stage: usize) -> String {
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

/// The arguments with other values for `--from=` or the `from=` of mounts, if there is one to replace.
fn replace_sources(
    keyword: Keyword,
    arguments: &str,
    other: &dyn Fn(&str) -> Option<String>,
) -> Option<String> {
    let (flags, rest) = instruction::options(arguments);
    let mut changed = false;
    let mut replaced = |from: &str| {
        let other = other(from).filter(|other| other != from)?;
        changed = true;
        Some(other)
    };
    let mut text = String::new();
    for flag in flags {
        match (keyword, flag.name(), flag.value()) {
            (Keyword::Copy, "--from", Some(value)) => {
                let value = value.trim_matches(['"', '\'']);
                let _ = write!(text, "--from={} ", replaced(value).as_deref().unwrap_or(value));
            }
            (Keyword::Run, "--mount", Some(value)) => {
                let members = value.split(',').map(|member| {
                    let from = member.trim_matches('"').strip_prefix("from=").and_then(&mut replaced);
                    from.map_or_else(|| member.to_owned(), |from| format!("from={from}"))
                });
                let members: Vec<_> = members.collect();
                let _ = write!(text, "--mount={} ", members.join(","));
            }
            _ => {
                let _ = write!(text, "{} ", flag.0);
            }
        }
    }
    changed.then(|| text + rest)
}

/// The text with `${A-b}` and `${A+b}` as `${A:-b}` and `${A:+b}`, if it has any.
fn soften(text: &str) -> Option<String> {
    let mut result = String::new();
    let mut quoted = false;
    let mut doubly_quoted = false;
    let mut copied = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if !quoted => at += 1,
            b'\'' if !doubly_quoted => quoted = !quoted,
            b'"' if !quoted => doubly_quoted = !doubly_quoted,
            b'$' if !quoted && bytes.get(at + 1) == Some(&b'{') => {
                let name = bytes[at + 2..]
                    .iter()
                    .take_while(|byte| **byte == b'_' || byte.is_ascii_alphanumeric())
                    .count();
                let end = at + 2 + name;
                if name > 0 && matches!(bytes.get(end), Some(b'-' | b'+')) {
                    result.push_str(&text[copied..end]);
                    result.push(':');
                    copied = end;
                }
                at = end - 1;
            }
            _ => {}
        }
        at += 1;
    }
    if copied == 0 {
        return None;
    }
    result.push_str(&text[copied..]);
    Some(result)
}
