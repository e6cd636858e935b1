//! Whether the builder makes of the other words what `BuildKit` makes of the original. The
//! builder's part is written after imagebuilder's `shell_parser.go`, with its loops as they are,
//! and Go's `path.Match`.

use std::collections::HashMap;

use proptest::prelude::*;

use super::expand::{Value, expand};
use super::substitution::Converter;

/// What the builder makes of an ARG or ENV value.
fn builder(word: &str, values: &HashMap<String, String>) -> String {
    let mut shell = Shell { text: word.as_bytes(), at: 0, values };
    shell.until(b"").1
}

struct Shell<'a> {
    text: &'a [u8],
    at: usize,
    values: &'a HashMap<String, String>,
}

impl Shell<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.at += 1;
        byte
    }

    fn next_if(&mut self, byte: u8) -> bool {
        let is = self.peek() == Some(byte);
        self.at += usize::from(is);
        is
    }

    /// `processStopOnAny`, without quotes.
    fn until(&mut self, stops: &[u8]) -> (Option<u8>, String) {
        let mut result = Vec::new();
        while let Some(byte) = self.peek() {
            if stops.contains(&byte) {
                self.at += 1;
                return (Some(byte), String::from_utf8(result).unwrap());
            }
            if byte == b'$' {
                result.extend(self.dollar().into_bytes());
                continue;
            }
            self.at += 1;
            result.extend(if byte == b'\\' { self.next() } else { Some(byte) });
        }
        assert!(stops.is_empty(), "no end");
        (None, String::from_utf8(result).unwrap())
    }

    /// `processDollar`, for braces.
    fn dollar(&mut self) -> String {
        self.at += 1;
        assert!(self.next_if(b'{'));
        let start = self.at;
        while self.peek().is_some_and(|byte| byte == b'_' || byte.is_ascii_alphanumeric()) {
            self.at += 1;
        }
        let name = std::str::from_utf8(&self.text[start..self.at]).unwrap();
        let value = self.values.get(name).cloned().unwrap_or_default();
        match self.next().unwrap() {
            b'}' => value,
            b':' => {
                assert_eq!(self.next(), Some(b'+'));
                let word = self.until(b"}").1;
                if value.is_empty() { value } else { word }
            }
            operator @ (b'#' | b'%') => {
                let greedy = self.next_if(operator);
                let word = self.until(b"}").1;
                cut(&value, &word, operator, greedy)
            }
            b'/' => {
                let all = self.next_if(b'/');
                let begin = !all && self.next_if(b'#');
                let end = !all && !begin && self.next_if(b'%');
                let (stop, pattern) = self.until(b"/}");
                let replacement = if stop == Some(b'/') { self.until(b"}").1 } else { String::new() };
                replace(value, &pattern, &replacement, (all, begin, end))
            }
            other => panic!("{other}"),
        }
    }
}

fn cut(value: &str, word: &str, operator: u8, greedy: bool) -> String {
    assert!(!word.is_empty());
    let all = 0..value.len();
    let but_last = 0..value.len().saturating_sub(1);
    let (prefix, suffix) =
        (|at: &usize| go_match(word, &value[..*at]), |at: &usize| go_match(word, &value[*at..]));
    match (operator, greedy) {
        (b'#', true) => all.rev().find(prefix).map_or(value, |at| &value[at..]),
        (b'#', false) => but_last.into_iter().find(prefix).map_or(value, |at| &value[at..]),
        (_, true) => but_last.into_iter().find(suffix).map_or(value, |at| &value[..at]),
        (_, false) => all.rev().find(suffix).map_or(value, |at| &value[..at]),
    }
    .to_owned()
}

fn replace(
    mut value: String,
    pattern: &str,
    replacement: &str,
    (all, begin, end): (bool, bool, bool),
) -> String {
    let mut at = 0_isize;
    while at < value.len().cast_signed() {
        let from = at.cast_unsigned();
        let found = (from + 1..=value.len()).rev().find(|to| {
            (!begin || from == 0) && (!end || *to == value.len()) && go_match(pattern, &value[from..*to])
        });
        if let Some(to) = found {
            value = format!("{}{replacement}{}", &value[..from], &value[to..]);
            if !all {
                return value;
            }
            at += replacement.len().cast_signed() - 1;
        }
        at += 1;
    }
    value
}

/// Go's `path.Match` for `*` and escaped characters.
fn go_match(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    match (pattern.first(), name.first()) {
        (None, name) => name.is_none(),
        (Some(b'*'), _) => (0..=name.len())
            .take_while(|end| !name[..*end].contains(&b'/'))
            .any(|end| go_match(text(&pattern[1..]), text(&name[end..]))),
        (Some(b'\\'), Some(first)) => {
            pattern.get(1) == Some(first) && go_match(text(&pattern[2..]), text(&name[1..]))
        }
        (Some(b'?' | b'['), _) => panic!("{}", text(pattern)),
        (Some(wanted), Some(first)) => wanted == first && go_match(text(&pattern[1..]), text(&name[1..])),
        (Some(_), None) => false,
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_builder_means_by_the_other_words_what_buildkit_means(
        value in "[ab/.#%\\[]{0,7}",
        operator in prop::sample::select(vec!["#", "##", "%", "%%", "/", "//"]),
        pattern in "([ab.#%\\[]|\\*|\\\\/|\\\\\\*|\\\\}){0,4}",
        replacement in "[ab/#%*.]{0,3}",
    ) {
        let stop = if operator.starts_with('/') { format!("/{replacement}") } else { String::new() };
        let word = format!("x${{V{operator}{pattern}{stop}}}y");
        let (mut helpers, mut left) = (0, 1 << 20);
        // What BuildKit refuses is not looked at.
        let Ok(expected) = expand(&word, &|_| Value::Set(&value), &mut left) else { return Ok(()) };
        let mut converter = Converter { is_set: &|_| false, helpers: &mut helpers, before: Vec::new() };
        let Ok(converted) = converter.convert(&word) else { return Ok(()) };
        let mut values = HashMap::from([("V".to_owned(), value.clone())]);
        for line in converter.before {
            let (name, helper) = line.split_once('=').unwrap();
            let helper = builder(helper.trim_matches('"'), &values);
            values.insert(name.to_owned(), helper);
        }
        let converted = converted.unwrap_or_else(|| word.clone());
        prop_assert_eq!(builder(&converted, &values), expected, "{} of {:?} is {}", word, value, converted);
    }
}
