//! Takes a Dockerfile apart into instructions, as `BuildKit`'s `parser` package does: directives,
//! comments, continued lines, here-documents.

use super::ScanError;
use super::expand::{self, Quotes};
use super::instruction::{self, Keyword};

/// Most instructions of a Dockerfile: each takes memory of its own.
const MAX_INSTRUCTIONS: usize = 10_000;

/// A Dockerfile in pieces.
#[derive(Debug)]
pub(super) struct File<'a> {
    /// Directives, comments and empty lines before the first instruction.
    pub(super) head: &'a str,
    /// In their order. Their texts and `head` together are the whole file.
    pub(super) instructions: Vec<Instruction<'a>>,
    /// Character that continues lines.
    pub(super) escape: char,
}

/// An instruction with the comments that follow it.
#[derive(Debug)]
pub(super) struct Instruction<'a> {
    /// Number of its first line, from 1.
    pub(super) line: usize,
    pub(super) keyword: Keyword,
    /// The keyword as it is written.
    pub(super) word: String,
    /// Its lines joined into one, without the keyword and without here-documents.
    pub(super) arguments: String,
    /// All of it as it is written, with what follows up to the next instruction.
    pub(super) text: &'a str,
    /// The part of `text` from its here-documents on.
    pub(super) rest: &'a str,
    /// Its here-documents, in their order.
    pub(super) heredocs: Vec<Heredoc>,
}

/// The beginning of a here-document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heredoc {
    /// The line that ends it.
    pub(super) name: String,
    /// Whether tabs before that line do not count.
    chomp: bool,
}

/// Lines with their positions.
struct Lines<'a> {
    text: &'a str,
    position: usize,
    number: usize,
}

impl<'a> Lines<'a> {
    /// The next line without its end.
    fn next(&mut self) -> Option<&'a str> {
        let rest = &self.text[self.position..];
        if rest.is_empty() {
            return None;
        }
        let length = rest.find('\n').map_or(rest.len(), |end| end + 1);
        self.position += length;
        self.number += 1;
        Some(rest[..length].trim_end_matches(['\n', '\r']))
    }
}

/// Reads a whole Dockerfile.
pub(super) fn read(text: &str) -> Result<File<'_>, ScanError> {
    let escape = escape_directive(text);
    let mut lines = Lines { text, position: 0, number: 0 };
    if text.starts_with('\u{feff}') {
        lines.position = '\u{feff}'.len_utf8();
    }
    let mut head = text;
    let mut starts = Vec::new();
    let mut instructions: Vec<Instruction<'_>> = Vec::new();
    loop {
        let start = lines.position;
        let Some(line) = lines.next() else { break };
        if is_comment(line) || line.trim().is_empty() {
            continue;
        }
        let number = lines.number;
        if instructions.len() == MAX_INSTRUCTIONS {
            return Err(ScanError::TooMany { limit: MAX_INSTRUCTIONS });
        }
        let logical = join(line, escape, &mut lines);
        let (word, arguments) = instruction::split(&logical);
        let keyword = Keyword::parse(word)
            .ok_or_else(|| ScanError::UnknownInstruction { line: number, word: shortened(word) })?;
        let heredocs = if keyword.takes_heredocs(arguments) { heredocs_of(arguments) } else { Vec::new() };
        let body = lines.position;
        for heredoc in &heredocs {
            skip(heredoc, &mut lines)
                .ok_or_else(|| ScanError::OpenHeredoc { line: number, name: shortened(&heredoc.name) })?;
        }
        if starts.is_empty() {
            head = &text[..start];
        }
        starts.push((start, body));
        let (word, arguments) = (word.to_owned(), arguments.to_owned());
        instructions.push(Instruction {
            line: number,
            keyword,
            word,
            arguments,
            text: "",
            rest: "",
            heredocs,
        });
    }
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([text.len()]);
    for ((instruction, (start, body)), end) in instructions.iter_mut().zip(&starts).zip(ends) {
        (instruction.text, instruction.rest) = (&text[*start..end], &text[*body..end]);
    }
    Ok(File { head, instructions, escape })
}

/// The value of an `escape` directive; directives are the comments of the form `name=value`
/// at the very beginning.
fn escape_directive(text: &str) -> char {
    for line in text.trim_start_matches('\u{feff}').lines() {
        let Some((name, value)) =
            line.trim().strip_prefix('#').and_then(|directive| directive.split_once('='))
        else {
            break;
        };
        match (name.trim().to_ascii_lowercase().as_str(), value.trim()) {
            ("escape", "`") => return '`',
            ("syntax" | "check", _) => {}
            _ => break,
        }
    }
    '\\'
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with('#')
}

/// A line with those that continue it. Comments and empty lines between them do not count.
fn join(first: &str, escape: char, lines: &mut Lines<'_>) -> String {
    let mut logical = String::new();
    let mut line = first.trim_start();
    loop {
        let Some(begun) = continued(line, escape) else {
            logical.push_str(line);
            return logical;
        };
        logical.push_str(begun);
        loop {
            match lines.next() {
                None => return logical,
                Some(next) if is_comment(next) || next.trim().is_empty() => {}
                Some(next) => {
                    line = next;
                    break;
                }
            }
        }
    }
}

/// The line without the sign that it continues, if it does: one escape character, and
/// blanks after it at most.
fn continued(line: &str, escape: char) -> Option<&str> {
    let begun = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!begun.ends_with(escape)).then_some(begun)
}

/// The here-documents that a line begins: words of the form `<<NAME`, `<<-NAME`, `3<<"NAME"`.
fn heredocs_of(arguments: &str) -> Vec<Heredoc> {
    if !arguments.contains("<<") {
        return Vec::new();
    }
    let Some(words) = expand::words(arguments, Quotes::Keep) else { return Vec::new() };
    words.iter().filter_map(|word| heredoc(word)).collect()
}

pub(super) fn heredoc(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
    let (chomp, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let [name] = expand::words(rest, Quotes::Remove)?.try_into().ok()?;
    Some(Heredoc { name, chomp })
}

/// Goes behind the line that ends a here-document; `None` if there is none.
fn skip(heredoc: &Heredoc, lines: &mut Lines<'_>) -> Option<()> {
    loop {
        let line = lines.next()?;
        let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
        if line == heredoc.name {
            return Some(());
        }
    }
}

/// A word as a message shows it.
fn shortened(word: &str) -> String {
    word.chars().take(40).collect()
}
