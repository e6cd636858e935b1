//! The variables that FROM lines may use, and those that builders set by themselves.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write as _;

use super::expand::{Unexpanded, Value, expand};
use super::{ScanError, instruction, platform, substitution};

/// Most bytes that the values of all variables and all FROM lines may have.
pub(super) const MAX_EXPANDED_BYTES: usize = 4 << 20;

/// The variables that are known before the first FROM.
#[derive(Debug)]
pub(super) struct Globals {
    /// `None`: the scan does not understand the value.
    values: HashMap<String, Option<String>>,
    /// What a builder sets by itself.
    automatic: HashMap<String, String>,
    /// Which of these the stage has declared so far.
    declared: BTreeSet<String>,
    left: usize,
}

impl Globals {
    /// Those that a builder sets by itself: builds are for the machine that they run on.
    pub(super) fn new() -> Self {
        let automatic: HashMap<_, _> = platform::variables().into_iter().collect();
        let values = automatic.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        Self { values, automatic, declared: BTreeSet::new(), left: MAX_EXPANDED_BYTES }
    }

    /// An ARG line before the first FROM. Returns its arguments in words that the builder reads as
    /// `BuildKit` does, if it needs other ones.
    pub(super) fn heading(&mut self, line: usize, arguments: &str) -> Result<Option<String>, ScanError> {
        let too_large = ScanError::TooLarge { line, limit: MAX_EXPANDED_BYTES };
        let mut is_changed = false;
        let mut words = String::new();
        for (name, value) in instruction::variables(arguments) {
            words.push_str(if words.is_empty() { "" } else { " " });
            words.push_str(&name);
            let Some(written) = value else { continue };
            let value = self.expand_if_known(&written).ok_or_else(|| too_large.clone())?;
            let otherwise = substitution::read_otherwise(&written);
            if platform::is_variable(&name) {
                // The builder refuses another value, and FROM lines get the one that counts.
                is_changed = true;
            } else {
                match (&value, &otherwise) {
                    (Some(value), Some(_)) => {
                        is_changed = true;
                        push_quoted(&mut words, value);
                    }
                    (None, Some(construct)) => {
                        return Err(ScanError::Substitution { line, construct: construct.clone() });
                    }
                    (_, None) => drop(write!(words, "={written}")),
                }
            }
            self.values.insert(name, value);
        }
        Ok(is_changed.then_some(words))
    }

    /// Names of the variables that have a value.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.values.keys().cloned().collect()
    }

    /// A FROM line was read: what follows is a stage.
    pub(super) fn begin_stage(&mut self) {
        self.declared.clear();
    }

    /// An ARG line of a stage. Returns why it cannot be built: the builder gives the variables that
    /// it sets by itself no other value.
    pub(super) fn argument(&mut self, line: usize, arguments: &str) -> Result<Option<ScanError>, ScanError> {
        for (name, written) in instruction::variables(arguments) {
            let Some(own) = self.automatic.get(&name) else { continue };
            let value = match written {
                None => self.values.get(&name).cloned().flatten(),
                Some(written) => {
                    let variables = |name: &str| match self.automatic.get(name) {
                        Some(value) if self.declared.contains(name) => Value::Set(value),
                        Some(_) => Value::Unset,
                        None => Value::Unknown,
                    };
                    match expand(&written, &variables, &mut self.left) {
                        Ok(value) => Some(value),
                        Err(Unexpanded::Unknown) => None,
                        Err(Unexpanded::TooLarge) => {
                            return Err(ScanError::TooLarge { line, limit: MAX_EXPANDED_BYTES });
                        }
                    }
                }
            };
            if value.as_ref() != Some(own) {
                return Ok(Some(ScanError::Automatic { line, name, value: own.clone() }));
            }
            self.declared.insert(name);
        }
        Ok(None)
    }

    /// `None` if the text gets too long; `Some(None)` if the scan does not understand it.
    #[expect(clippy::option_option, reason = "the two are handled at different places")]
    pub(super) fn expand_if_known(&mut self, word: &str) -> Option<Option<String>> {
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

/// Adds `="value"`.
fn push_quoted(words: &mut String, value: &str) {
    words.push_str("=\"");
    for c in value.chars() {
        if "\"$\\".contains(c) {
            words.push('\\');
        }
        words.push(c);
    }
    words.push('"');
}
