//! Words and variables, as `BuildKit`'s `shell` package reads them.

use std::iter::Peekable;
use std::str::Chars;

use super::glob::{self, Operator};

/// Whether words keep their quotes and backslashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quotes {
    Keep,
    Remove,
}

/// The words of a text, split at blanks that are neither quoted nor inside `${}`; `None` if a
/// quote is not closed.
pub(super) fn words(text: &str, quotes: Quotes) -> Option<Vec<String>> {
    let keep = quotes == Quotes::Keep;
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut braces = 0_usize;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if quote.is_none() && braces == 0 && c.is_whitespace() {
            words.extend(word.take());
            continue;
        }
        let word = word.get_or_insert_default();
        let mut shown = true;
        match c {
            '\\' if quote != Some('\'') => {
                if keep {
                    word.push(c);
                }
                word.extend(chars.next());
                continue;
            }
            '"' | '\'' if quote == Some(c) => (quote, shown) = (None, keep),
            '"' | '\'' if quote.is_none() => (quote, shown) = (Some(c), keep),
            '$' if quote != Some('\'') && chars.peek() == Some(&'{') => braces += 1,
            '}' if quote != Some('\'') => braces = braces.saturating_sub(1),
            _ => {}
        }
        if shown {
            word.push(c);
        }
    }
    words.extend(word);
    (quote.is_none() && braces == 0).then_some(words)
}

/// Value of a variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Set(&'a str),
    Unset,
    /// It depends on what the scan does not understand.
    Unknown,
}

/// Why a text was not expanded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unexpanded {
    /// The builder may understand it; the scan does not.
    Unknown,
    /// All that is allowed has been used.
    TooLarge,
}

/// How deep `${A:-${B:-…}}` may be nested.
const MAX_DEPTH: usize = 32;

/// Replaces the variables of a word and removes its quotes. `left` is the number of bytes that
/// may be written still.
pub(super) fn expand<'v>(
    word: &str,
    variables: &'v dyn Fn(&str) -> Value<'v>,
    left: &mut usize,
) -> Result<String, Unexpanded> {
    let mut expansion = Expansion { chars: word.chars().peekable(), variables, left };
    expansion.word(false, 0)
}

struct Expansion<'t, 'v, 'l> {
    chars: Peekable<Chars<'t>>,
    variables: &'v dyn Fn(&str) -> Value<'v>,
    left: &'l mut usize,
}

impl Expansion<'_, '_, '_> {
    /// Expands up to the end, or up to the brace that closes a variable.
    fn word(&mut self, braced: bool, depth: usize) -> Result<String, Unexpanded> {
        if depth > MAX_DEPTH {
            return Err(Unexpanded::Unknown);
        }
        let mut result = String::new();
        let mut doubly_quoted = false;
        while let Some(c) = self.chars.next() {
            match c {
                '}' if braced && !doubly_quoted => return Ok(result),
                '\'' if !doubly_quoted => self.literally(&mut result)?,
                '"' => doubly_quoted = !doubly_quoted,
                '\\' => self.escaped(doubly_quoted, &mut result)?,
                '$' => {
                    let value = self.dollar(depth)?;
                    self.push(&mut result, &value)?;
                }
                c => self.push(&mut result, c.encode_utf8(&mut [0; 4]))?,
            }
        }
        if braced || doubly_quoted { Err(Unexpanded::Unknown) } else { Ok(result) }
    }

    fn push(&mut self, result: &mut String, text: &str) -> Result<(), Unexpanded> {
        *self.left = self.left.checked_sub(text.len()).ok_or(Unexpanded::TooLarge)?;
        result.push_str(text);
        Ok(())
    }

    /// Up to the closing single quote.
    fn literally(&mut self, result: &mut String) -> Result<(), Unexpanded> {
        loop {
            match self.chars.next() {
                None => return Err(Unexpanded::Unknown),
                Some('\'') => return Ok(()),
                Some(c) => self.push(result, c.encode_utf8(&mut [0; 4]))?,
            }
        }
    }

    /// What follows a backslash; inside of double quotes it protects only what is special there.
    fn escaped(&mut self, doubly_quoted: bool, result: &mut String) -> Result<(), Unexpanded> {
        let Some(c) = self.chars.next() else { return self.push(result, "\\") };
        if doubly_quoted && !matches!(c, '"' | '$' | '\\') {
            self.push(result, "\\")?;
        }
        self.push(result, c.encode_utf8(&mut [0; 4]))
    }

    /// The value of what follows a `$`.
    fn dollar(&mut self, depth: usize) -> Result<String, Unexpanded> {
        if self.chars.next_if_eq(&'{').is_none() {
            let name = self.name();
            return if name.is_empty() { Ok("$".to_owned()) } else { self.value(&name) };
        }
        let name = self.name();
        if name.is_empty() {
            return Err(Unexpanded::Unknown);
        }
        let mut operator = self.chars.next();
        if operator == Some('}') {
            return self.value(&name);
        }
        if let Some(operator @ ('#' | '%' | '/')) = operator {
            return self.matched(&name, operator);
        }
        let colon = operator == Some(':');
        if colon {
            operator = self.chars.next();
        }
        let (Some('-' | '+' | '?'), Some(operator)) = (operator, operator) else {
            return Err(Unexpanded::Unknown);
        };
        let other = self.word(true, depth + 1)?;
        let value = (self.variables)(&name);
        let set = match value {
            Value::Unknown => return Err(Unexpanded::Unknown),
            Value::Unset => false,
            Value::Set(text) => !(colon && text.is_empty()),
        };
        match (operator, set) {
            ('-', false) | ('+', true) => Ok(other),
            ('+', false) => Ok(String::new()),
            ('-' | '?', true) => self.value(&name),
            // The builder tells that the variable is missing.
            _ => Err(Unexpanded::Unknown),
        }
    }

    /// The value of `${NAME` and one of the operators that take a pattern.
    fn matched(&mut self, name: &str, operator: char) -> Result<String, Unexpanded> {
        let double = self.chars.next_if_eq(&operator).is_some();
        let (operator, stop) = match operator {
            '#' => (Operator::Prefix { longest: double }, '}'),
            '%' => (Operator::Suffix { longest: double }, '}'),
            _ => (Operator::Replace { all: double }, '/'),
        };
        let pattern = self.raw(stop)?;
        let replacement = if stop == '/' { self.raw('}')? } else { String::new() };
        let pieces = glob::parse(&pattern).ok_or(Unexpanded::Unknown)?;
        // What it means to replace nothing is a matter of Go's regular expressions.
        if stop == '/' && glob::matches_nothing(&pieces) {
            return Err(Unexpanded::Unknown);
        }
        let value = self.value(name)?;
        let result = glob::apply(operator, &value, &pieces, &replacement, self.left);
        let result = result.ok_or(Unexpanded::TooLarge)?;
        if result.len() > *self.left { Err(Unexpanded::TooLarge) } else { Ok(result) }
    }

    /// Up to the character that ends it, with its backslashes; quotes and variables are
    /// not understood there.
    fn raw(&mut self, stop: char) -> Result<String, Unexpanded> {
        let mut text = String::new();
        while let Some(c) = self.chars.next() {
            match c {
                c if c == stop => return Ok(text),
                '$' | '"' | '\'' => break,
                c => text.push(c),
            }
            if c == '\\' {
                text.extend(self.chars.next());
            }
        }
        Err(Unexpanded::Unknown)
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        while let Some(c) = self.chars.next_if(|c| *c == '_' || c.is_ascii_alphanumeric()) {
            name.push(c);
        }
        name
    }

    /// A copy of a value that may be written still.
    fn value(&self, name: &str) -> Result<String, Unexpanded> {
        match (self.variables)(name) {
            Value::Unknown => Err(Unexpanded::Unknown),
            Value::Unset => Ok(String::new()),
            Value::Set(text) if text.len() > *self.left => Err(Unexpanded::TooLarge),
            Value::Set(text) => Ok(text.to_owned()),
        }
    }
}
