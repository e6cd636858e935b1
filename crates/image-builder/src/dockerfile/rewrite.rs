//! Words a Dockerfile so that the builder (buildah 1.43) reads it as `BuildKit` does. Only lines
//! that need it are changed:
//!
//! - FROM with its variables replaced: the builder refuses `${A-b}`,
//! - names of stages in lower case: the builder compares them exactly,
//! - variables with operators that the builder lacks or reads otherwise ([`substitution`]),
//! - ARG without a value for what builders set by themselves: the builder refuses one,
//! - options that say what is so anyway,
//! - the escape directive in the first line, where the builder looks for it,
//! - symbolic modes: the files get them in a stage of their own, from which they are copied then.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::declared::Declared;
use super::instruction::{self, Keyword};
use super::lines::{File, Instruction};
use super::modes::{ModeStage, unnamed};
use super::refusals::without_needless_flags;
use super::stages::{Source, Stages};
use super::substitution::{self, Converter, Inexpressible};
use super::{ScanError, platform};

/// Longest text that is passed to the builder: one that grows beyond stays as it is.
const MAX_BYTES: usize = 512 << 10;
#[derive(Debug)]
pub(super) struct Rewriter<'a> {
    pub(super) stages: &'a Stages,
    /// In the order in which they were needed.
    pub(super) modes: Vec<ModeStage>,
    /// Numbers in `modes` by what is in the stage.
    pub(super) known: BTreeMap<String, usize>,
    /// Stages that need a name.
    pub(super) unnamed: BTreeSet<usize>,
    /// How many variables are put in.
    helpers: usize,
    /// The variables that are set so far.
    declared: Declared,
}

/// An instruction in other words.
#[derive(Debug, Default)]
struct Line {
    /// Instructions that are put in before it.
    before: String,
    /// Keyword and arguments, if they need other words.
    text: Option<String>,
}

/// The whole file in other words; `None` if it is right as it is.
pub(super) fn rewrite(file: &File<'_>, stages: &Stages) -> Result<Option<String>, ScanError> {
    let needed = stages.needed();
    // Nothing that is put together here knows of another escape character.
    if file.escape != '\\' {
        refuse_what_is_read_otherwise(file, stages, &needed)?;
        return Ok(with_escape_first(file));
    }
    let mut rewriter = Rewriter {
        stages,
        modes: Vec::new(),
        known: BTreeMap::new(),
        unnamed: BTreeSet::new(),
        helpers: 0,
        declared: Declared::default(),
    };
    let mut lines = Vec::new();
    for (number, instruction) in file.instructions.iter().enumerate() {
        let stage = stages.of_instruction[number];
        lines.push(match rewriter.line(number, instruction, stage) {
            Ok(line) => line,
            Err(Inexpressible(construct)) if stage.is_none_or(|stage| needed[stage]) => {
                return Err(ScanError::Substitution { line: instruction.line, construct });
            }
            // Nothing of it is built.
            Err(_) => Line::default(),
        });
        let Instruction { keyword, word, arguments, .. } = instruction;
        rewriter.declared.note(*keyword, word, arguments, stages);
    }
    if !rewriter.modes.is_empty() {
        rewriter.renumber(file, &mut lines);
    }
    if lines.iter().all(|line| line.text.is_none()) {
        return Ok(None);
    }
    let text = rewriter.text(file, &lines);
    if text.is_none() {
        refuse_what_is_read_otherwise(file, stages, &needed)?;
    }
    Ok(text)
}

/// For a file that is passed on as it is.
fn refuse_what_is_read_otherwise(file: &File<'_>, stages: &Stages, needed: &[bool]) -> Result<(), ScanError> {
    for (instruction, stage) in file.instructions.iter().zip(&stages.of_instruction) {
        let expanded = match instruction.keyword {
            Keyword::Plain | Keyword::OnBuild => continue,
            Keyword::Run => options_of(&instruction.arguments).0,
            _ => &instruction.arguments,
        };
        if stage.is_none_or(|stage| needed[stage])
            && let Some(construct) = substitution::read_otherwise(expanded)
        {
            return Err(ScanError::Substitution { line: instruction.line, construct });
        }
    }
    Ok(())
}

/// The file with its escape directive in the first line: the builder takes no other
/// comment before it.
fn with_escape_first(file: &File<'_>) -> Option<String> {
    let head = file.head.trim_start_matches('\u{feff}');
    let first = head.trim_start().trim_start_matches('#').trim_start();
    let is_first = first.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("escape"));
    (!is_first).then(|| {
        let instructions: String = file.instructions.iter().map(|instruction| instruction.text).collect();
        format!("# escape={}\n{head}{instructions}", file.escape)
    })
}

impl Rewriter<'_> {
    /// All lines together; `None` if that is too long.
    fn text(&self, file: &File<'_>, lines: &[Line]) -> Option<String> {
        let mut text = file.head.to_owned();
        for ((instruction, stage), line) in
            file.instructions.iter().zip(&self.stages.of_instruction).zip(lines)
        {
            if instruction.keyword == Keyword::From {
                for mode in self.modes.iter().filter(|mode| Some(mode.before) == *stage) {
                    text.push_str(&mode.text);
                }
            }
            text.push_str(&line.before);
            match &line.text {
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

    /// Other words for an instruction, if it needs them.
    fn line(
        &mut self,
        number: usize,
        instruction: &Instruction<'_>,
        stage: Option<usize>,
    ) -> Result<Line, Inexpressible> {
        let Instruction { keyword, arguments, .. } = instruction;
        let text = match (keyword, stage) {
            (Keyword::From, Some(stage)) => {
                let from = &self.stages.list[stage].from;
                (from.split_whitespace().ne(arguments.split_whitespace())).then(|| format!("FROM {from}"))
            }
            (Keyword::Copy | Keyword::Add, Some(stage)) => {
                let plain = without_needless_flags(*keyword, arguments);
                let (mut keyword, mut text) =
                    plain.map_or((*keyword, None), |(keyword, text)| (keyword, Some(text)));
                if let Some(moded) =
                    self.with_mode(instruction, keyword, text.as_deref().unwrap_or(arguments), stage)
                {
                    // A file that gets its mode in a stage is never added from elsewhere.
                    if moded.contains("--from=hearth-mode-") {
                        keyword = Keyword::Copy;
                    }
                    text = Some(moded);
                }
                text = self.with_names(keyword, text.as_deref().unwrap_or(arguments), stage).or(text);
                return self.converted(keyword.name(), text, arguments, ("", Some(stage)));
            }
            (Keyword::Run, Some(stage)) => {
                let plain = without_needless_flags(*keyword, arguments).map(|(_, text)| text);
                let named = self.with_names(*keyword, plain.as_deref().unwrap_or(arguments), stage);
                return self.run_converted(named.or(plain), arguments, stage);
            }
            (Keyword::Arg, None) => self.stages.headings.get(&number).map(|text| format!("ARG {text}")),
            (Keyword::Arg, Some(_)) => {
                return self.converted("ARG", without_automatic_values(arguments), arguments, ("", stage));
            }
            (Keyword::Expanding, _) => {
                return self.converted(&instruction.word, None, arguments, ("", stage));
            }
            (Keyword::OnBuild, _) => {
                let (word, inner) = instruction::split(arguments);
                match Keyword::parse(word) {
                    Some(Keyword::Add | Keyword::Arg | Keyword::Copy | Keyword::Expanding) => {
                        return self.converted(&format!("ONBUILD {word}"), None, inner, ("ONBUILD ", None));
                    }
                    _ => None,
                }
            }
            _ => None,
        };
        Ok(Line { before: String::new(), text })
    }

    /// The line with these arguments, `text` or `arguments`, their variables in the builder's
    /// words. `prefix` is what stands before the keyword; the stage is where the variables are.
    fn converted(
        &mut self,
        word: &str,
        text: Option<String>,
        arguments: &str,
        (prefix, stage): (&str, Option<usize>),
    ) -> Result<Line, Inexpressible> {
        let (declared, stages) = (&self.declared, self.stages);
        let is_set = |name: &str| stage.is_some_and(|stage| declared.has(name, stage, stages));
        let mut converter = Converter { is_set: &is_set, helpers: &mut self.helpers, before: Vec::new() };
        let arguments = text.as_deref().unwrap_or(arguments);
        let (head, rest) = options_of(arguments);
        let other = match instruction::json(rest) {
            None => converter.convert(arguments)?,
            Some(list) => {
                let flags = converter.convert(head)?;
                let mut is_changed = flags.is_some();
                let mut words = Vec::new();
                for word in list {
                    let other = converter.convert(&word)?;
                    is_changed |= other.is_some();
                    words.push(other.unwrap_or(word));
                }
                let list = serde_json::Value::from(words).to_string();
                is_changed.then(|| flags.unwrap_or_else(|| head.to_owned()) + &list)
            }
        };
        let before = arg_lines(&converter.before, prefix);
        Ok(Line { before, text: other.or(text).map(|text| format!("{word} {text}")) })
    }

    /// RUN with these arguments: the variables of its command are the shell's, those of
    /// its options are not.
    fn run_converted(
        &mut self,
        text: Option<String>,
        arguments: &str,
        stage: usize,
    ) -> Result<Line, Inexpressible> {
        let (declared, stages) = (&self.declared, self.stages);
        let is_set = |name: &str| declared.has(name, stage, stages);
        let mut converter = Converter { is_set: &is_set, helpers: &mut self.helpers, before: Vec::new() };
        let (flags, command) = options_of(text.as_deref().unwrap_or(arguments));
        let other = converter.convert(flags)?.map(|flags| flags + command);
        let before = arg_lines(&converter.before, "");
        Ok(Line { before, text: other.or(text).map(|text| format!("RUN {text}")) })
    }

    /// The arguments with the names of stages as the stages have them.
    fn with_names(&self, keyword: Keyword, arguments: &str, current: usize) -> Option<String> {
        let renamed = |from: &str| match self.stages.source(from, current) {
            Source::Stage(stage) if from.parse::<usize>().is_err() => self.stages.list[stage].name.clone(),
            _ => None,
        };
        replace_sources(keyword, arguments, &renamed)
    }

    /// Adapts what names stages by their number, and gives names to stages that need one.
    fn renumber(&self, file: &File<'_>, lines: &mut [Line]) {
        for ((instruction, stage), line) in
            file.instructions.iter().zip(&self.stages.of_instruction).zip(lines)
        {
            let (Some(stage), line) = (*stage, &mut line.text) else { continue };
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

/// The options of an instruction and what follows them, both as they are written.
fn options_of(arguments: &str) -> (&str, &str) {
    let rest = instruction::options(arguments).1;
    arguments.split_at(arguments.len() - rest.len())
}

/// Lines that declare variables.
fn arg_lines(values: &[String], prefix: &str) -> String {
    let mut lines = String::new();
    for value in values {
        let _ = writeln!(lines, "{prefix}ARG {value}");
    }
    lines
}

/// The arguments of ARG without values for what builders set by themselves, if there are any: the
/// scan has made sure that they are the values that the builder sets.
fn without_automatic_values(arguments: &str) -> Option<String> {
    let mut is_changed = false;
    let words = instruction::variables(arguments).into_iter().map(|(name, value)| match value {
        Some(_) if platform::is_variable(&name) => {
            is_changed = true;
            name
        }
        Some(value) => format!("{name}={value}"),
        None => name,
    });
    let words: Vec<_> = words.collect();
    is_changed.then(|| words.join(" "))
}

/// The arguments with other values for `--from=` or the `from=` of mounts, if there
/// is one to replace.
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
