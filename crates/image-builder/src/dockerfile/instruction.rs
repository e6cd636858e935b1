//! Instructions and their options.

use super::expand::{self, Quotes};

/// The instructions that matter to the scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    Add,
    Arg,
    Copy,
    From,
    OnBuild,
    Run,
    /// Expands variables.
    Expanding,
    /// Does not.
    Plain,
}

impl Keyword {
    pub(super) fn parse(word: &str) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_str() {
            "ADD" => Self::Add,
            "ARG" => Self::Arg,
            "COPY" => Self::Copy,
            "FROM" => Self::From,
            "ONBUILD" => Self::OnBuild,
            "RUN" => Self::Run,
            "ENV" | "EXPOSE" | "LABEL" | "STOPSIGNAL" | "USER" | "VOLUME" | "WORKDIR" => Self::Expanding,
            "CMD" | "ENTRYPOINT" | "HEALTHCHECK" | "MAINTAINER" | "SHELL" => Self::Plain,
            _ => return None,
        })
    }

    /// Whether `<<` in the arguments begins a here-document.
    pub(super) fn takes_heredocs(self, arguments: &str) -> bool {
        match self {
            Self::OnBuild => {
                let (word, arguments) = split(arguments);
                matches!(Self::parse(word), Some(inner) if inner != Self::OnBuild && inner.takes_heredocs(arguments))
            }
            Self::Add | Self::Copy | Self::Run => !is_json(options(arguments).1),
            _ => false,
        }
    }

    /// Name in a Dockerfile.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Arg => "ARG",
            Self::Copy => "COPY",
            Self::From => "FROM",
            Self::OnBuild => "ONBUILD",
            Self::Run => "RUN",
            Self::Expanding | Self::Plain => "this instruction",
        }
    }
}

/// An option as it is written: `--name=value` or `--name`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flag<'a>(pub(super) &'a str);

impl<'a> Flag<'a> {
    pub(super) fn name(self) -> &'a str {
        self.0.split('=').next().unwrap_or_default()
    }

    /// The value, when it is given.
    pub(super) fn value(self) -> Option<&'a str> {
        self.0.split_once('=').map(|(_, value)| value)
    }
}

/// The first word and the rest.
pub(super) fn split(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    (word, rest.trim())
}

/// The options at the beginning of an instruction's arguments, and the rest.
pub(super) fn options(arguments: &str) -> (Vec<Flag<'_>>, &str) {
    let mut flags = Vec::new();
    let mut rest = arguments.trim_start();
    while rest.starts_with("--") {
        let end = end_of_word(rest);
        if end == 2 {
            break;
        }
        flags.push(Flag(&rest[..end]));
        rest = rest[end..].trim_start();
    }
    (flags, rest)
}

/// Where a word ends that may hold quoted blanks.
fn end_of_word(text: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            _ if escaped => escaped = false,
            _ if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c.is_whitespace() => return at,
            Some(_) | None => {}
        }
    }
    text.len()
}

/// Whether arguments are a JSON list of texts.
pub(super) fn is_json(arguments: &str) -> bool {
    json(arguments).is_some()
}

/// The texts of arguments that are a JSON list.
pub(super) fn json(arguments: &str) -> Option<Vec<String>> {
    arguments.starts_with('[').then(|| serde_json::from_str(arguments).ok()).flatten()
}

/// The images or stages that an instruction takes files from, as they are written.
pub(super) fn sources(keyword: Keyword, arguments: &str) -> Vec<&str> {
    let (flags, _) = options(arguments);
    let named = |name: &'static str| flags.iter().filter(move |flag| flag.name() == name);
    match keyword {
        Keyword::Copy => named("--from").filter_map(|flag| flag.value()).map(unquoted).collect(),
        Keyword::Run => {
            let members =
                named("--mount").filter_map(|flag| flag.value()).flat_map(|mount| unquoted(mount).split(','));
            members.filter_map(|member| unquoted(member).strip_prefix("from=")).collect()
        }
        _ => Vec::new(),
    }
}

fn unquoted(text: &str) -> &str {
    text.trim_matches(['"', '\''])
}

/// The image of FROM and the name that follows AS, as they are written.
pub(super) fn from(arguments: &str) -> Option<(Vec<Flag<'_>>, &str, Option<&str>)> {
    let (flags, rest) = options(arguments);
    let words: Vec<_> = rest.split_whitespace().take(4).collect();
    match words[..] {
        [image] => Some((flags, image, None)),
        [image, word, name] if word.eq_ignore_ascii_case("as") => Some((flags, image, Some(name))),
        _ => None,
    }
}

/// The variables of an ARG: name, and value if it has one, in the words of the file.
pub(super) fn variables(arguments: &str) -> Vec<(String, Option<String>)> {
    let words = expand::words(arguments, Quotes::Keep).unwrap_or_default();
    let pairs = words.into_iter().map(|word| match word.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (word, None),
    });
    pairs.collect()
}
