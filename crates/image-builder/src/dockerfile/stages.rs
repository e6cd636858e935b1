//! Stages, and the images that the last of them needs.

use std::collections::{BTreeSet, HashMap};

use super::ScanError;
use super::expand::{Unexpanded, Value, expand};
use super::instruction::{self, Flag, Keyword};
use super::lines::Instruction;

/// Most bytes that the values of all variables and all FROM lines may have.
pub(super) const MAX_EXPANDED_BYTES: usize = 4 << 20;

/// The tools of the builder, which build-image lends under the name of a build context.
pub(super) const TOOLS: &str = "hearth-build-tools";

/// What a stage starts from, or takes files from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Stage(usize),
    Image(String),
    /// Nothing, or what only the builder knows.
    Other,
}

/// A stage.
#[derive(Debug)]
pub(super) struct Stage {
    /// In lower case.
    pub(super) name: Option<String>,
    pub(super) base: Source,
    /// Arguments of FROM with their variables replaced, as far as they are understood.
    pub(super) from: String,
    /// What `--from=` in its instructions names.
    needs: Vec<String>,
}

/// All stages of a Dockerfile.
#[derive(Debug)]
pub(super) struct Stages {
    pub(super) list: Vec<Stage>,
    /// For each instruction, the stage that it belongs to; `None` before the first FROM.
    pub(super) of_instruction: Vec<Option<usize>>,
    /// Names as they were known at each stage's beginning: the stages that have a name, in their order.
    names: HashMap<String, Vec<usize>>,
}

impl Stages {
    pub(super) fn of(instructions: &[Instruction<'_>]) -> Result<Self, ScanError> {
        let mut stages = Self { list: Vec::new(), of_instruction: Vec::new(), names: HashMap::new() };
        let mut globals = Globals::new();
        for Instruction { line, keyword, arguments, .. } in instructions {
            let too_large = || ScanError::TooLarge { line: *line, limit: MAX_EXPANDED_BYTES };
            match keyword {
                Keyword::From => {
                    let stage = stages.begin(arguments, &mut globals).ok_or_else(too_large)?;
                    if let Some(name) = &stage.name {
                        stages.names.entry(name.clone()).or_default().push(stages.list.len());
                    }
                    stages.list.push(stage);
                }
                Keyword::Arg if stages.list.is_empty() => globals.declare(arguments).ok_or_else(too_large)?,
                _ if stages.list.is_empty() => {
                    let word = keyword.name().to_owned();
                    return Err(ScanError::BeforeFrom { line: *line, word });
                }
                _ => stages.use_in_last(*keyword, arguments),
            }
            stages.of_instruction.push(stages.list.len().checked_sub(1));
        }
        if stages.list.is_empty() { Err(ScanError::NoFrom) } else { Ok(stages) }
    }

    /// The stage that a FROM line begins; `None` if its variables are too long.
    fn begin(&self, arguments: &str, globals: &mut Globals) -> Option<Stage> {
        let unknown =
            Stage { name: None, base: Source::Other, from: arguments.to_owned(), needs: Vec::new() };
        let Some((flags, image, name)) = instruction::from(arguments) else { return Some(unknown) };
        let name = name.map(str::to_lowercase);
        let mut words = Vec::new();
        for Flag(flag) in flags {
            words.push(globals.expand_if_known(flag)?.unwrap_or_else(|| flag.to_owned()));
        }
        let (base, written) = match globals.expand_if_known(image)? {
            None => (Source::Other, image.to_owned()),
            Some(image) if image == "scratch" => (Source::Other, image),
            Some(image) => match self.by_name(&image, self.list.len()) {
                Some(stage) => (Source::Stage(stage), image.to_lowercase()),
                None => (Source::Image(image.clone()), image),
            },
        };
        // An empty word, or one with blanks, is for the builder to refuse.
        if written.is_empty() || written.contains(char::is_whitespace) {
            return Some(Stage { name, ..unknown });
        }
        words.push(written);
        words.extend(name.iter().flat_map(|name| ["AS".to_owned(), name.clone()]));
        Some(Stage { name, base, from: words.join(" "), needs: Vec::new() })
    }

    fn use_in_last(&mut self, keyword: Keyword, arguments: &str) {
        let current = self.list.len() - 1;
        let sources = instruction::sources(keyword, arguments).into_iter().map(str::to_owned);
        self.list[current].needs.extend(sources);
    }

    /// What `--from=` in the stage `current` means.
    pub(super) fn source(&self, from: &str, current: usize) -> Source {
        if from.contains('$') || from.is_empty() || from == TOOLS {
            return Source::Other;
        }
        let number = || from.parse().ok().filter(|number| *number <= current);
        match self.by_name(from, current + 1).or_else(number) {
            Some(stage) => Source::Stage(stage),
            // A later stage, which the builder refuses.
            None if self.names.contains_key(&from.to_lowercase()) => Source::Other,
            None => Source::Image(from.to_owned()),
        }
    }

    /// The last stage of this name before the stage `current`.
    fn by_name(&self, name: &str, current: usize) -> Option<usize> {
        let stages = self.names.get(&name.to_lowercase())?;
        stages[..stages.partition_point(|stage| *stage < current)].last().copied()
    }

    /// The images that the last stage needs, directly or through other stages.
    pub(super) fn images(&self) -> BTreeSet<String> {
        let mut images = BTreeSet::new();
        let mut seen = vec![false; self.list.len()];
        let mut open = vec![self.list.len() - 1];
        while let Some(number) = open.pop() {
            if std::mem::replace(&mut seen[number], true) {
                continue;
            }
            let stage = &self.list[number];
            let needs = stage.needs.iter().map(|from| self.source(from, number));
            for source in needs.chain([stage.base.clone()]) {
                match source {
                    Source::Stage(stage) => open.push(stage),
                    Source::Image(image) => drop(images.insert(image)),
                    Source::Other => {}
                }
            }
        }
        images
    }
}

/// The variables that FROM lines may use.
#[derive(Debug)]
struct Globals {
    /// `None`: the scan does not understand the value.
    values: HashMap<String, Option<String>>,
    left: usize,
}

impl Globals {
    /// Those that a builder sets by itself: builds are for the machine that they run on.
    fn new() -> Self {
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut values = HashMap::new();
        for side in ["BUILD", "TARGET"] {
            let parts = [
                ("PLATFORM", format!("linux/{arch}")),
                ("OS", "linux".into()),
                ("ARCH", arch.into()),
                ("VARIANT", String::new()),
            ];
            values.extend(parts.map(|(part, value)| (format!("{side}{part}"), Some(value))));
        }
        Self { values, left: MAX_EXPANDED_BYTES }
    }

    /// `None` if the values are too long.
    fn declare(&mut self, arguments: &str) -> Option<()> {
        for (name, value) in instruction::variables(arguments) {
            if let Some(value) = value {
                let value = self.expand_if_known(&value)?;
                self.values.insert(name, value);
            }
        }
        Some(())
    }

    /// `None` if the text gets too long; `Some(None)` if the scan does not understand it.
    #[expect(clippy::option_option, reason = "the two are handled at different places")]
    fn expand_if_known(&mut self, word: &str) -> Option<Option<String>> {
        let variables = |name: &str| match self.values.get(name) {
            None => Value::Unset,
            Some(None) => Value::Unknown,
            Some(Some(value)) => Value::Set(value),
        };
        match expand(word, &variables, &mut self.left) {
            Ok(text) => Some(Some(text)),
            Err(Unexpanded::Unknown) => Some(None),
            Err(Unexpanded::TooLarge) => None,
        }
    }
}
