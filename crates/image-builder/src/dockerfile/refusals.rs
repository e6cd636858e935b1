//! Instructions that `BuildKit` takes and the builder cannot: said before a microVM
//! is booted for them.

use super::ScanError;
use super::instruction::{self, Flag, Keyword};
use super::lines::Instruction;

/// Why an instruction of a stage cannot be built.
pub(super) fn of(instruction: &Instruction<'_>) -> Option<ScanError> {
    let line = instruction.line;
    let (flags, rest) = instruction::options(&instruction.arguments);
    match instruction.keyword {
        Keyword::Run => {
            let flag = flags.iter().find(|flag| is_refused_of_run(**flag))?;
            Some(ScanError::Flag { line, flag: shortened(flag.0), word: "RUN" })
        }
        Keyword::Add => {
            let sources = sources(rest);
            if let Some(source) = sources.iter().find(|source| is_git(source)) {
                return Some(ScanError::Git { line, repository: shortened(source) });
            }
            let unpack = flags.iter().rfind(|flag| flag.name() == "--unpack")?;
            let urls = sources.iter().filter(|source| is_url(source)).count();
            let is_said = match is_unpacking(*unpack) {
                Some(true) => urls == 0,
                Some(false) => urls == 0 || urls == sources.len(),
                None => false,
            };
            (!is_said).then(|| ScanError::Flag { line, flag: shortened(unpack.0), word: "ADD" })
        }
        _ => None,
    }
}

/// Options of RUN that ask for what build microVMs do not have. `--security=sandbox` is what
/// every RUN line gets.
fn is_refused_of_run(flag: Flag<'_>) -> bool {
    flag.name() == "--device" || (flag.name() == "--security" && flag.value() != Some("sandbox"))
}

/// The instruction without options that only name what is so anyway. The keyword is another one for
/// an archive that is not to be unpacked.
pub(super) fn without_needless_flags(keyword: Keyword, arguments: &str) -> Option<(Keyword, String)> {
    let name = match keyword {
        Keyword::Run => "--security",
        Keyword::Add => "--unpack",
        _ => return None,
    };
    let (flags, rest) = instruction::options(arguments);
    let flag = *flags.iter().rfind(|flag| flag.name() == name)?;
    let is_copy = keyword == Keyword::Add
        && is_unpacking(flag) == Some(false)
        && !sources(rest).iter().any(|it| is_url(it));
    let kept: String =
        flags.iter().filter(|flag| flag.name() != name).flat_map(|Flag(flag)| [flag, " "]).collect();
    Some((if is_copy { Keyword::Copy } else { keyword }, kept + rest))
}

/// What `--unpack` says (Go's `strconv.ParseBool`, in the cases that people write).
fn is_unpacking(flag: Flag<'_>) -> Option<bool> {
    match flag.value().map(str::to_ascii_lowercase).as_deref() {
        None | Some("true" | "1") => Some(true),
        Some("false" | "0") => Some(false),
        Some(_) => None,
    }
}

/// The words before the last.
fn sources(rest: &str) -> Vec<String> {
    let mut words =
        instruction::json(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
    words.pop();
    words
}

fn is_url(source: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| source.starts_with(scheme)) && !is_git(source)
}

/// Whether a source of ADD is a git repository (`BuildKit`, util/gitutil).
fn is_git(source: &str) -> bool {
    let source = source.trim_matches(['"', '\'']);
    let path = source.split(['#', '?']).next().unwrap_or_default();
    let is_http = ["http://", "https://"].iter().any(|scheme| path.starts_with(scheme));
    (is_http && path.trim_end_matches('/').strip_suffix(".git").is_some())
        || ["git://", "ssh://", "git@"].iter().any(|scheme| path.starts_with(scheme))
}

/// A word as a message shows it.
fn shortened(word: &str) -> String {
    word.chars().take(120).collect()
}
