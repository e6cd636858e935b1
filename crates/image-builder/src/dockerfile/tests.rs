//! What `BuildKit` does with these Dockerfiles is the reference.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::globals::MAX_EXPANDED_BYTES;
use super::*;

fn images(text: &str) -> Vec<String> {
    look_at(text).unwrap_or_else(|error| panic!("{text}: {error}")).images.into_iter().collect()
}

fn rewritten(text: &str) -> String {
    let scan = look_at(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let new = scan.rewritten.unwrap_or_else(|| text.to_owned());
    // What was rewritten means the same to the scan, and needs no more rewriting.
    let again = look_at(&new).unwrap_or_else(|error| panic!("{new}: {error}"));
    assert_eq!((again.images, again.rewritten), (scan.images, None), "{new}");
    new
}

#[test]
fn stages_and_scratch_are_no_images() {
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
fn images_of_stages_that_the_last_does_not_need_are_not_asked_for() {
    let text = "FROM node:22 AS frontend\nRUN npm ci\nFROM ghcr.io/example/dev AS dev\nCOPY --from=ghcr.io/uv:1 /uv /uv\n\
                FROM debian AS base\nFROM base AS test\nRUN --mount=type=bind,from=lint:1,target=/lint /lint/run\n\
                FROM base\nCOPY --from=tools /x /x\n";
    assert_eq!(images(text), ["debian", "tools"]);
}

#[test]
fn global_and_automatic_arguments_are_expanded() {
    let text = "ARG SUITE=trixie\nARG TAG=\"${SUITE}-slim\" EMPTY= FLAVOUR\nFROM debian:${TAG} AS base\n\
                FROM base AS build-amd64\nFROM base AS build-arm64\nFROM build-${TARGETARCH} AS native\n\
                FROM --platform=$BUILDPLATFORM a:${FLAVOUR:-b}${EMPTY:-c}${EMPTY-d}${SUITE:+e}${EMPTY:+f}${EMPTY+g}\n\
                COPY --from=native / /\n";
    assert_eq!(images(text), ["a:bceg", "debian:trixie-slim"]);
    let new = rewritten(text);
    assert!(new.contains("\nFROM --platform=linux/"), "{new}");
    assert!(new.contains(" a:bceg\n"), "{new}");
}

#[test]
fn what_only_the_builder_understands_is_left_to_it() {
    let text = "FROM x:${A\nCOPY --from=${B} /x /x\nRUN --mount=from=$C true\n";
    assert_eq!(images(text), [""; 0]);
    assert_eq!(rewritten(text), text);
}

#[test]
fn names_of_stages_have_no_case() {
    let text = "FROM debian AS Base\nFROM BASE AS next\nCOPY --from=bASe /a /b\nRUN --mount=type=bind,from=Base,target=/m true\n";
    let new = rewritten(text);
    assert_eq!(
        new,
        "FROM debian AS base\nFROM base AS next\nCOPY --from=base /a /b\nRUN --mount=type=bind,from=base,target=/m true\n"
    );
    assert_eq!(images(text), ["debian"]);
}

#[test]
fn here_documents_stand_anywhere_and_several_in_a_line() {
    let text = "# syntax=docker/dockerfile:1\nFROM debian\nRUN perl - one <<'PERL' && \\\n  # a comment\n  true\nFROM a\nPERL\n\
                RUN cat <<EOF >/a && tee <<-\"RAW\"\nFROM b\nEOF\nFROM c\n\t\tRAW\n\
                COPY <<X.sh <<Y /opt/\n#!/bin/sh\nX.sh\nFROM d\nY\nONBUILD RUN cat <<Z\nFROM e\nZ\n\
                RUN echo \"no <<DOC here\" <<<string\nRUN [\"echo\", \"<<DOC\"]\nENV A=<<DOC\n";
    assert_eq!(images(text), ["debian"]);
    assert_eq!(rewritten(text), text);
}

#[test]
fn comments_continuations_and_directives_are_read_as_buildkit_does() {
    let text = "\u{feff}# Escape = `\r\n# more\r\n\r\nfrom debian `\r\n\r\n# between\r\n  as `  \r\n  x\r\nRUN dir C:\\\r\ncopy --from=y a b\r\n";
    assert_eq!(images(text), ["debian", "y"]);
    // Two escape characters do not continue, and a directive after a comment is none.
    assert_eq!(images("# x\n# escape=`\nFROM a\nRUN echo \\\\\nCOPY --from=b c d\n"), ["a", "b"]);
}

#[test]
fn what_no_builder_takes_is_refused_with_its_line() {
    let refused = |text| scan(text).expect_err(text).to_string();
    assert!(refused("# nothing\n").ends_with("it has no FROM instruction."));
    assert!(
        refused("FROM debian\n\nRUN a \\\n b\nRUNN true\n")
            .ends_with("line 5: there is no instruction \"RUNN\".")
    );
    assert!(refused("RUN a\nFROM debian\n").contains("line 1: RUN comes before"));
    assert!(
        refused("FROM debian\nRUN cat <<EOF\nx\n EOF\n")
            .contains("line 2: the here-document that \"EOF\" ends")
    );
}

#[test]
fn operators_that_the_builder_lacks_are_replaced() {
    let text = "FROM debian\nARG A=${B-1}\nENV C=\"${A+x}\" D='${A+x}' E=\\${A+x} F=${A:-${G-y}}\nRUN echo ${A-1}\nlabel\\\n a=${A-}\n";
    assert_eq!(
        rewritten(text),
        "FROM debian\nARG A=${B:-1}\nENV C=\"${hearth_value:-x}\" D='${A+x}' E=\\${A+x} F=${A:-${G:-y}}\nRUN echo ${A-1}\nlabel a=${A}${hearth_value:+}\n"
    );
}

#[test]
fn symbolic_modes_are_given_in_a_stage_of_their_own() {
    let text = "FROM debian\nFROM alpine AS last\nCOPY --chmod=a+rX,go-w --chown=1:2 tree/ ./x [y] /t/\n\
                COPY --chmod=\"u=rwx,go=rx\" --from=0 /bin/a /b\nCOPY --chmod=+x <<EOF /entry\nhi\nEOF\n\
                COPY --from=0 a b\nCOPY --chmod=0755 a b\n";
    let new = rewritten(text);
    let modes = "FROM scratch AS hearth-mode-0\nCOPY . /context/\nRUN --mount=type=bind,from=hearth-build-tools,target=/.hearth-tools \
                 [\"/.hearth-tools/busybox\", \"chmod\", \"-R\", \"a+rX,go-w\", \"/context\"]\n\
                 FROM hearth-stage-0 AS hearth-mode-1\nUSER 0\n";
    assert!(new.starts_with(&format!("FROM debian AS hearth-stage-0\n{modes}")), "{new}");
    let copies = "COPY --from=hearth-mode-0 --chown=1:2 /context/tree/ /context/./x /context/[y] /t/\n\
                  COPY --from=hearth-mode-1 /bin/a /b\nCOPY --chmod=0755 <<EOF /entry\nhi\nEOF\n\
                  COPY --from=0 a b\nCOPY --chmod=0755 a b\n";
    assert!(new.ends_with(copies), "{new}");
    // Numbers count the stages that were put in before.
    let later = "FROM a\nCOPY --chmod=+x a b\nFROM c\nCOPY --from=0 x y\n";
    assert!(rewritten(later).ends_with("COPY --from=1 x y\n"));
}

#[test]
fn modes_that_cannot_be_given_so_are_left_to_the_builder() {
    for line in [
        "ADD --chmod=a+x https://a/b /c",
        "ADD --chmod=a+x a.tgz /c",
        "COPY --chmod=a+x ../a b",
        "COPY --chmod=${M} a b",
        "COPY --chmod=a+q a b",
    ] {
        let text = format!("FROM debian\n{line}\n");
        assert_eq!(rewritten(&text), text);
    }
}

#[test]
fn variables_that_grow_without_limit_are_refused() {
    let bombs = [
        "ARG A=0123456789\n".to_owned() + &"ARG A=$A$A$A$A\n".repeat(18),
        "ARG A=xxxxxxxx\n".to_owned() + &"ARG A=${A:-}${B:-$A$A}\n".repeat(40),
    ];
    for bomb in bombs {
        let text = bomb + "FROM debian:$A\n";
        assert!(matches!(look_at(&text), Err(ScanError::TooLarge { .. })), "{text}");
    }
}

/// Heaps of what makes scans slow or large: each is a megabyte, the largest Dockerfile.
#[test]
fn a_megabyte_of_anything_is_scanned_in_one_pass() {
    let tails = [
        "FROM a AS b\n",
        "FROM b AS b\n",
        "ARG A=$A$A\n",
        "COPY --from=b --chmod=+x a b\n",
        "${",
        "${A:-",
        "<<A ",
        "\\\n",
        "'",
        "\"",
        "\\",
        "--a ",
        "#\n",
        "ENV A=${A-",
    ];
    for tail in tails {
        for head in ["FROM a\nRUN ", "FROM a\n", "ARG A=", "FROM a AS b\nCOPY --from=b ", "FROM "] {
            let text = format!("{head}{}", tail.repeat((1 << 20) / tail.len()));
            if let Ok(scan) = look_at(&text) {
                assert!(scan.rewritten.is_none_or(|new| new.len() <= (512 << 10) + text.len()));
            }
        }
    }
}

#[test]
fn fuzz_dockerfiles() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(scan) = look_at(text)
            && let Some(new) = scan.rewritten
        {
            // Patterns are in the builder's words then.
            let again = look_at(&new);
            assert!(matches!(again, Ok(_) | Err(ScanError::Substitution { .. })), "{text:?} became {new:?}");
        }
    });
}

fn fragments() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "FROM ",
        "debian",
        " AS ",
        "a",
        "B",
        "\n",
        "\\\n",
        "ARG ",
        "A=",
        "$A",
        "${A",
        "}",
        ":-",
        "-",
        "+",
        "COPY ",
        "--from=",
        "--chmod=",
        "a+rX",
        "0",
        "RUN ",
        "--mount=",
        "from=",
        ",",
        "<<EOF",
        "<<-'E'",
        "EOF",
        "\nEOF\n",
        "\tE\n",
        "#",
        "# escape=`\n",
        "`",
        "\"",
        "'",
        " ",
        "/x",
        "[\"a\", \"b\"]",
        "ONBUILD ",
        "ENV ",
        "\r\n",
    ]);
    prop::collection::vec(pieces, 0..80).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn rewriting_keeps_the_images_and_ends(tail in fragments()) {
        let text = format!("FROM debian AS a\n{tail}");
        if let Ok(scan) = look_at(&text)
            && let Some(new) = scan.rewritten
        {
            let again = look_at(&new);
            prop_assert!(again.is_ok(), "{text:?} became {new:?}: {again:?}");
            prop_assert_eq!(again.map(|scan| scan.images), Ok(scan.images), "{:?} became {:?}", text, new);
        }
    }

    #[test]
    fn what_variables_expand_to_is_bounded(values in prop::collection::vec((0..4_usize, prop::collection::vec(0..4_usize, 0..9)), 0..60)) {
        let mut text = String::from("ARG V0=0123456789\n");
        for (name, uses) in values {
            let _ = write!(text, "ARG V{name}=");
            for name in uses {
                let _ = write!(text, "${{V{name}:-x}}");
            }
            text.push('\n');
        }
        text += "FROM x:$V0$V1$V2$V3\n";
        match look_at(&text) {
            Ok(scan) => prop_assert!(scan.images.iter().map(String::len).sum::<usize>() <= MAX_EXPANDED_BYTES),
            Err(error) => prop_assert!(matches!(error, ScanError::TooLarge { .. }), "{}", error),
        }
    }
}
