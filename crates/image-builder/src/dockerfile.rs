//! Reads a Dockerfile as far as the host needs it: is it well-formed, and which images does it start from?

use std::collections::{BTreeMap, BTreeSet};

use parse_dockerfile::{Flag, Instruction};

use crate::failure::{BuildFailure, FailureCode};

/// The images that a build takes from elsewhere: those of FROM, COPY --from and RUN --mount=from= that are no stages of
/// its own.
pub(crate) fn external_images(text: &str) -> Result<BTreeSet<String>, BuildFailure> {
    let dockerfile = parse_dockerfile::parse(text).map_err(|error| {
        BuildFailure::new(
            FailureCode::ContainerBuildFailed,
            format!("The Dockerfile has a syntax error: {}.", error.to_string().replace('\n', " ")),
        )
    })?;
    let mut arguments = BTreeMap::new();
    let mut stages = BTreeSet::new();
    let mut stage_count = 0_usize;
    let mut images = BTreeSet::new();
    for instruction in &dockerfile.instructions {
        match instruction {
            Instruction::Arg(arg) if stage_count == 0 => declare(&mut arguments, &arg.arguments.value),
            Instruction::From(from) => {
                let image = expand(&from.image.value, &arguments);
                if image != "scratch" && !stages.contains(&image.to_lowercase()) {
                    images.insert(image);
                }
                if let Some((_, name)) = &from.as_ {
                    stages.insert(name.value.to_lowercase());
                }
                stage_count += 1;
            }
            _ => {
                for from in sources(instruction) {
                    let is_stage = stages.contains(&from.to_lowercase())
                        || from.parse::<usize>().is_ok_and(|index| index < stage_count);
                    if !is_stage {
                        images.insert(expand(from, &arguments));
                    }
                }
            }
        }
    }
    Ok(images)
}

/// Stages and images that an instruction takes files from.
fn sources<'a>(instruction: &'a Instruction<'_>) -> Vec<&'a str> {
    match instruction {
        Instruction::Copy(copy) => values(&copy.options, "from").collect(),
        Instruction::Run(run) => {
            let members = values(&run.options, "mount").flat_map(|mount| mount.split(','));
            members.filter_map(|member| member.strip_prefix("from=")).collect()
        }
        _ => Vec::new(),
    }
}

/// Values of the options with this name.
fn values<'a>(options: &'a [Flag<'_>], name: &str) -> impl Iterator<Item = &'a str> {
    let named = options.iter().filter(move |option| option.name.value == name);
    named.filter_map(|option| option.value.as_ref()).map(|value| &*value.value)
}

fn declare(arguments: &mut BTreeMap<String, String>, text: &str) {
    for word in text.split_whitespace() {
        if let Some((name, value)) = word.split_once('=') {
            let value = expand(value.trim_matches(['"', '\'']), arguments);
            arguments.insert(name.to_owned(), value);
        }
    }
}

/// Replaces `$NAME`, `${NAME}` and `${NAME:-default}`; unknown names become empty, as in a build.
fn expand(text: &str, arguments: &BTreeMap<String, String>) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        result.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (name, default, length) =
            if let Some((inner, _)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                let (name, default) = inner.split_once(":-").unwrap_or((inner, ""));
                (name, default, inner.len() + 2)
            } else {
                let end = rest.find(|c: char| c != '_' && !c.is_ascii_alphanumeric()).unwrap_or(rest.len());
                (&rest[..end], "", end)
            };
        result.push_str(arguments.get(name).map_or(default, String::as_str));
        rest = &rest[length..];
    }
    result.push_str(rest);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(text: &str) -> Vec<String> {
        external_images(text).unwrap().into_iter().collect()
    }

    #[test]
    fn stages_and_scratch_are_no_external_images() {
        let text = "FROM debian:trixie-slim AS build\nRUN true\nFROM scratch\nCOPY --from=build /x /x\n\
                    COPY --from=0 /y /y\nCOPY --from=busybox:1 /bin/sh /sh\nCMD [\"/x\"]\n";
        assert_eq!(images(text), ["busybox:1", "debian:trixie-slim"]);
    }

    #[test]
    fn mounts_of_run_lines_may_be_images() {
        let text = "FROM debian:trixie-slim AS build\nRUN --mount=type=cache,target=/c \\\n    \
                    --mount=type=bind,from=busybox:1,target=/b --mount=from=build,target=/d true\n";
        assert_eq!(images(text), ["busybox:1", "debian:trixie-slim"]);
    }

    #[test]
    fn global_arguments_are_expanded() {
        let text =
            "ARG SUITE=trixie\nARG TAG=\"${SUITE}-slim\"\nFROM debian:${TAG}\nFROM $MISSING${X:-alpine}:3\n";
        assert_eq!(images(text), ["alpine:3", "debian:trixie-slim"]);
    }

    #[test]
    fn a_syntax_error_says_where() {
        let failure = external_images("FROM debian\nRUNN true\n").unwrap_err();
        assert_eq!(failure.code, FailureCode::ContainerBuildFailed);
        assert!(failure.message.contains("syntax error"), "{failure}");
        assert!(failure.message.contains('2'), "{failure}");
    }
}
