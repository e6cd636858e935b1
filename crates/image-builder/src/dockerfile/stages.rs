//! Stages, and the images that the last of them needs.

use std::collections::{BTreeSet, HashMap};

use super::globals::{Globals, MAX_EXPANDED_BYTES};
use super::instruction::{self, Flag, Keyword};
use super::lines::Instruction;
use super::{OtherPlatform, ScanError, platform, refusals, substitution};

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
    /// The platform of FROM, if it is not this machine's.
    other_platform: Option<OtherPlatform>,
    /// The first of its instructions that cannot be built, if it is needed.
    refusal: Option<ScanError>,
}

/// All stages of a Dockerfile.
#[derive(Debug)]
pub(super) struct Stages {
    pub(super) list: Vec<Stage>,
    /// For each instruction, the stage that it belongs to; `None` before the first FROM.
    pub(super) of_instruction: Vec<Option<usize>>,
    /// Names of the variables that have a value before the first FROM.
    pub(super) globals: BTreeSet<String>,
    /// Arguments of the ARG lines before the first FROM that need other words, by the
    /// number of the instruction.
    pub(super) headings: HashMap<usize, String>,
    /// Names as they were known at each stage's beginning: the stages that have a
    /// name, in their order.
    names: HashMap<String, Vec<usize>>,
}

impl Stages {
    pub(super) fn of(instructions: &[Instruction<'_>]) -> Result<Self, ScanError> {
        let mut stages = Self {
            list: Vec::new(),
            of_instruction: Vec::new(),
            globals: BTreeSet::new(),
            headings: HashMap::new(),
            names: HashMap::new(),
        };
        let mut globals = Globals::new();
        for (number, instruction) in instructions.iter().enumerate() {
            let Instruction { line, keyword, arguments, .. } = instruction;
            let too_large = || ScanError::TooLarge { line: *line, limit: MAX_EXPANDED_BYTES };
            match keyword {
                Keyword::From => {
                    let stage = stages.begin(*line, arguments, &mut globals).ok_or_else(too_large)?;
                    if let Some(name) = &stage.name {
                        stages.names.entry(name.clone()).or_default().push(stages.list.len());
                    }
                    globals.begin_stage();
                    stages.list.push(stage);
                }
                Keyword::Arg if stages.list.is_empty() => {
                    if let Some(words) = globals.heading(*line, arguments)? {
                        stages.headings.insert(number, words);
                    }
                }
                _ if stages.list.is_empty() => {
                    let word = keyword.name().to_owned();
                    return Err(ScanError::BeforeFrom { line: *line, word });
                }
                _ => {
                    stages.use_in_last(*keyword, arguments);
                    let refusal = match keyword {
                        Keyword::Arg => globals.argument(*line, arguments)?,
                        _ => refusals::of(instruction),
                    };
                    stages.refuse_last(refusal);
                }
            }
            stages.of_instruction.push(stages.list.len().checked_sub(1));
        }
        stages.globals = globals.names();
        if stages.list.is_empty() { Err(ScanError::NoFrom) } else { Ok(stages) }
    }

    /// Keeps the first reason for which the last stage so far cannot be built.
    fn refuse_last(&mut self, refusal: Option<ScanError>) {
        if let Some(stage) = self.list.last_mut() {
            stage.refusal = stage.refusal.take().or(refusal);
        }
    }

    /// Why one of the stages that are needed cannot be built.
    pub(super) fn refusal(&self) -> Option<&ScanError> {
        let needed = self.needed();
        self.list.iter().zip(needed).find_map(|(stage, needed)| stage.refusal.as_ref().filter(|_| needed))
    }

    /// The first stage that is needed and is for another platform.
    pub(super) fn other_platform(&self) -> Option<OtherPlatform> {
        let needed = self.needed();
        let mut stages = self.list.iter().zip(needed).filter(|(_, needed)| *needed);
        stages.find_map(|(stage, _)| stage.other_platform.clone())
    }

    /// The stage that a FROM line begins; `None` if its variables are too long.
    fn begin(&self, line: usize, arguments: &str, globals: &mut Globals) -> Option<Stage> {
        let mut stage = Stage {
            name: None,
            base: Source::Other,
            from: arguments.to_owned(),
            needs: Vec::new(),
            other_platform: None,
            refusal: None,
        };
        let Some((flags, image, name)) = instruction::from(arguments) else { return Some(stage) };
        stage.name = name.map(str::to_lowercase);
        let (mut words, mut platform, mut is_known) = (Vec::new(), None, true);
        for Flag(written) in flags {
            let flag = globals.expand_if_known(written)?;
            is_known &= flag.is_some();
            match flag.as_deref().and_then(|flag| flag.strip_prefix("--platform=")) {
                Some(value) => platform = Some(value.to_owned()),
                None => words.push(flag.unwrap_or_else(|| written.to_owned())),
            }
        }
        // Every image that there is for a build is for this machine, and a stage is what it is.
        if let Some(platform) = platform.as_deref().filter(|platform| !platform.is_empty()) {
            words.insert(0, format!("--platform={}", platform::own()));
            if !platform::is_own(platform) {
                stage.other_platform = Some(OtherPlatform { line, platform: platform.to_owned() });
            }
        }
        let (base, written) = match globals.expand_if_known(image)? {
            None => {
                is_known = false;
                (Source::Other, image.to_owned())
            }
            Some(image) if image == "scratch" => (Source::Other, image),
            Some(image) => match self.by_name(&image, self.list.len()) {
                Some(stage) => (Source::Stage(stage), image.to_lowercase()),
                None => (Source::Image(image.clone()), image),
            },
        };
        if !is_known {
            stage.refusal = substitution::read_otherwise(arguments)
                .map(|construct| ScanError::Substitution { line, construct });
        }
        if !matches!(base, Source::Image(_)) {
            stage.other_platform = None;
        }
        // An empty word, or one with blanks, is for the builder to refuse.
        if written.is_empty() || written.contains(char::is_whitespace) {
            return Some(stage);
        }
        words.push(written);
        words.extend(stage.name.iter().flat_map(|name| ["AS".to_owned(), name.clone()]));
        (stage.base, stage.from) = (base, words.join(" "));
        Some(stage)
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
        for (number, _) in self.needed().into_iter().enumerate().filter(|(_, needed)| *needed) {
            for source in self.sources(number) {
                if let Source::Image(image) = source {
                    images.insert(image);
                }
            }
        }
        images
    }

    /// For each stage, whether the last one needs it, directly or through other stages; itself too.
    pub(super) fn needed(&self) -> Vec<bool> {
        let mut seen = vec![false; self.list.len()];
        let mut open = vec![self.list.len() - 1];
        while let Some(number) = open.pop() {
            if std::mem::replace(&mut seen[number], true) {
                continue;
            }
            open.extend(self.sources(number).filter_map(|source| match source {
                Source::Stage(stage) => Some(stage),
                Source::Image(_) | Source::Other => None,
            }));
        }
        seen
    }

    /// What a stage starts from and takes files from.
    fn sources(&self, number: usize) -> impl Iterator<Item = Source> {
        let stage = &self.list[number];
        let needs = stage.needs.iter().map(move |from| self.source(from, number));
        needs.chain([stage.base.clone()])
    }
}
