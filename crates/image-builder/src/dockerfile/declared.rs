//! Which variables a stage has certainly set, be it to nothing: those of its own ARG and ENV lines,
//! and of the ENV lines of the stages that it starts from.

use std::collections::BTreeSet;

use super::expand::{self, Quotes};
use super::instruction::{self, Keyword};
use super::stages::{Source, Stages};

/// How many stages are followed from one to the one that it starts from.
const MOST_STAGES: usize = 32;

/// The variables of the stages so far.
#[derive(Debug, Default)]
pub(super) struct Declared {
    /// By ARG lines of the last stage.
    arguments: BTreeSet<String>,
    /// By ENV lines of each stage.
    environments: Vec<BTreeSet<String>>,
}

impl Declared {
    /// Takes note of an instruction, after its variables were replaced.
    pub(super) fn note(&mut self, keyword: Keyword, word: &str, arguments: &str, stages: &Stages) {
        match keyword {
            Keyword::From => {
                self.arguments.clear();
                self.environments.push(BTreeSet::new());
            }
            Keyword::Arg if !self.environments.is_empty() => {
                for (name, value) in instruction::variables(arguments) {
                    if value.is_some() || stages.globals.contains(&name) {
                        self.arguments.insert(name);
                    }
                }
            }
            Keyword::Expanding if word.eq_ignore_ascii_case("ENV") => {
                let Some(environment) = self.environments.last_mut() else { return };
                let words = expand::words(arguments, Quotes::Keep).unwrap_or_default();
                // ENV NAME and a value is the older form.
                let is_old = words.first().is_some_and(|word| !word.contains('='));
                let names = words.into_iter().take(if is_old { 1 } else { usize::MAX });
                environment.extend(names.filter_map(|word| word.split('=').next().map(str::to_owned)));
            }
            _ => {}
        }
    }

    /// Whether a variable is set in this stage, as far as it has been read.
    pub(super) fn has(&self, name: &str, stage: usize, stages: &Stages) -> bool {
        if self.arguments.contains(name) {
            return true;
        }
        let mut stage = Some(stage);
        for _ in 0..MOST_STAGES {
            let Some(number) = stage else { return false };
            if self.environments.get(number).is_some_and(|environment| environment.contains(name)) {
                return true;
            }
            stage = match stages.list[number].base {
                Source::Stage(base) => Some(base),
                Source::Image(_) | Source::Other => None,
            };
        }
        false
    }
}
