//! What the builder reads otherwise than `BuildKit`, or not at all: other words, or a sentence.

use super::*;

/// What the builder gets.
fn given(text: &str) -> String {
    let scan = look_at(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let new = scan.rewritten.unwrap_or_else(|| text.to_owned());
    // Patterns are in the builder's words then, which mean something else to the scan.
    if !text.contains("${") {
        assert_eq!(look_at(&new).map(|scan| scan.images), Ok(scan.images), "{new}");
    }
    new
}

fn refused(text: &str) -> String {
    scan(text).expect_err(text).to_string()
}

#[test]
fn another_platform_is_named_with_its_line_and_only_when_it_is_needed() {
    let other = if platform::architecture() == "arm64" { "amd64" } else { "arm64" };
    let text =
        format!("ARG P=linux/{other}\nFROM --platform=$P node:22 AS x\nFROM debian\nCOPY --from=x /a /a\n");
    let scan = look_at(&text).unwrap();
    let found = scan.other_platform.unwrap();
    assert_eq!((found.line, found.platform.as_str()), (2, format!("linux/{other}").as_str()));
    let sentence = found.failure().message;
    assert!(
        sentence.contains(&format!("line 2: FROM asks for an image for linux/{other}, and")),
        "{sentence}"
    );
    assert!(sentence.contains(&format!("built here for {}", platform::own())), "{sentence}");
    // Where the operator has it so, the image of this machine is taken.
    let expected = format!("\nFROM --platform={} node:22 AS x\n", platform::own());
    assert!(scan.rewritten.unwrap().contains(&expected));
    for text in [
        format!("FROM --platform=linux/{other} node:22 AS x\nFROM debian\n"),
        format!("FROM debian AS x\nFROM --platform=linux/{other} x\n"),
        format!("FROM --platform={0} a\nFROM --platform=linux/{0}/v8 b\n", platform::architecture()),
        "FROM --platform=$TARGETPLATFORM a\n".to_owned(),
        "FROM --platform=${NOTHING} a\n".to_owned(),
    ] {
        assert_eq!(look_at(&text).unwrap().other_platform, None, "{text}");
    }
    // The builder compares variants; there is one image, whatever they are.
    let variant = format!("FROM --platform=Linux/{}/v3 a\n", std::env::consts::ARCH);
    assert_eq!(given(&variant), format!("FROM --platform={} a\n", platform::own()));
}

#[test]
fn platforms_that_arg_lines_name_again_are_what_the_builder_sets() {
    let own = platform::own();
    let text = format!(
        "ARG BUILDPLATFORM={own} A=1\nFROM --platform=$BUILDPLATFORM golang AS b\n\
         ARG TARGETPLATFORM=${{TARGETPLATFORM:-{own}}} X=\"a b\" TARGETARCH\nRUN echo $TARGETPLATFORM\n"
    );
    assert_eq!(
        given(&text),
        format!(
            "ARG BUILDPLATFORM A=1\nFROM --platform={own} golang AS b\nARG TARGETPLATFORM X=\"a b\" TARGETARCH\n\
             RUN echo $TARGETPLATFORM\n"
        )
    );
    // FROM lines get another value; a stage cannot.
    assert_eq!(images_of("ARG TARGETARCH=riscv64\nFROM x:$TARGETARCH\n"), ["x:riscv64"]);
    let expected = "line 3: ARG gives TARGETARCH another value than the";
    assert!(refused("ARG TARGETARCH=riscv64\nFROM x\nARG TARGETARCH\n").contains(expected));
    assert!(refused("FROM x\n\nARG TARGETARCH=riscv64\n").contains(expected));
    assert_eq!(images_of("FROM x\nARG TARGETARCH=riscv64\nFROM y\n"), ["y"]);
}

fn images_of(text: &str) -> Vec<String> {
    look_at(text).unwrap().images.into_iter().collect()
}

#[test]
fn patterns_before_the_first_stage_are_worked_out() {
    let text = "ARG IMAGE=ghcr.io/acme/app:1.2\nARG NAME=${IMAGE##*/} \"Q=a $IMAGE\"\nFROM x/${NAME%%:*}:${IMAGE#*:}\n";
    assert_eq!(
        given(text),
        "ARG IMAGE=ghcr.io/acme/app:1.2\nARG NAME=\"app:1.2\" \"Q=a $IMAGE\"\nFROM x/app:1.2\n"
    );
    assert_eq!(images_of("ARG V=v1-2-3\nFROM x:${V//-/.}\n"), ["x:v1.2.3"]);
    assert!(
        refused("ARG A\nFROM debian:${A:?which}\n")
            .contains("line 2: the builder does not read ${A:?which} as")
    );
    assert!(refused("ARG B=${A?}\nFROM debian\n").contains("line 1: the builder does not read ${A?} as"));
}

#[test]
fn patterns_in_a_stage_are_put_so_that_the_builder_means_the_same() {
    for (written, expected) in [
        ("ENV N=${A##*/}", "ENV N=${A//*\\//}"),
        ("WORKDIR /srv/${P%%/*}", "WORKDIR /srv/${P//\\/*/}"),
        ("ENV N=${P%/*}", "ENV N=${P%/*}"),
        ("ENV N=${V#v}", "ENV N=${V/#v/}"),
        ("ENV N=\"${V%%.tar.gz} x\"", "ENV N=\"${V/%.tar.gz/} x\""),
        ("LABEL a=${V/#v/}", "LABEL a=${V/\\#v/}"),
        ("USER ${V//[x]/\\}}", "USER ${V//\\\\[x]/\\\\\\}}"),
        ("ENV N=${V#} M=${V#*} L=x${V##*}", "ENV N=${V} M=${V} L=x${V:+}"),
        ("ENV N='${V#v}' M=\\${V#v} $V", "ENV N='${V#v}' M=\\${V#v} $V"),
        ("ENV N=${A:-${V#v}}", "ENV N=${A:-${V/#v/}}"),
        ("ENV N=${A?is missing} M=${B:?x}${C:?}", "ENV N=${A:?} M=${B:?}${C:?}"),
        ("COPY --chown=${U%:x} [\"${V#v}\", \"/x y\"]", "COPY --chown=${U/%:x/} [\"${V/#v/}\",\"/x y\"]"),
        ("ONBUILD ENV N=${V#v}", "ONBUILD ENV N=${V/#v/}"),
        (
            "RUN --mount=type=cache,target=/c/${V##*/} echo ${V##*/}",
            "RUN --mount=type=cache,target=/c/${V//*\\//} echo ${V##*/}",
        ),
        (
            "ENV N=${V%.*}",
            "ARG hearth_value_1=\"${V//\\//\u{1}}\"\nARG hearth_value_2=\"${hearth_value_1%.*}\"\n\
             ENV N=${hearth_value_2//\u{1}/\\/}",
        ),
        (
            "ENV N=${V#*:}",
            "ARG hearth_value_1=\"${V//\\//\u{1}}\u{2}\u{2}\"\nARG hearth_value_2=\"${hearth_value_1#*:}\"\n\
             ARG hearth_value_3=\"${hearth_value_2%\u{2}\u{2}}\"\nENV N=${hearth_value_3//\u{1}/\\/}",
        ),
        (
            "ONBUILD ENV N=${V/a*\\//b/c}",
            "ONBUILD ARG hearth_value_1=\"${V//\\//\u{1}}\"\n\
             ONBUILD ARG hearth_value_2=\"${hearth_value_1/a*\u{1}/b\\/c}\"\n\
             ONBUILD ENV N=${hearth_value_2//\u{1}/\\/}",
        ),
    ] {
        assert_eq!(
            given(&format!("FROM debian\n{written}\n")),
            format!("FROM debian\n{expected}\n"),
            "{written}"
        );
    }
}

#[test]
fn a_variable_that_a_stage_sets_to_nothing_is_set() {
    for (before, is_set) in [
        ("FROM debian\nARG A=\n", true),
        ("FROM debian\nENV X=1 A=\n", true),
        ("FROM debian\nENV A x\n", true),
        ("ARG A=\nFROM debian\nARG A\n", true),
        ("FROM debian AS b\nENV A=\nFROM b\n", true),
        ("FROM debian\nARG A\n", false),
        ("FROM debian\n", false),
        ("FROM debian AS b\nARG A=\nFROM b\n", false),
        ("FROM debian AS b\nENV A=\nFROM debian\n", false),
    ] {
        let expected = if is_set {
            "ENV N=${A}${hearth_value:+x} M=${hearth_value:-${A}${hearth_value:+y}} L=${A}\n"
        } else {
            "ENV N=${A:-x} M=${A:+${A:-y}} L=${A:?}\n"
        };
        let text = format!("{before}ENV N=${{A-x}} M=${{A+${{A-y}}}} L=${{A?z}}\n");
        assert_eq!(given(&text), format!("{before}{expected}"));
    }
}

#[test]
fn patterns_that_cannot_be_put_so_are_refused_by_line() {
    for (written, construct) in [
        ("ENV N=${V#?}", "${V#?}"),
        ("ENV N=${V#$W}", "${V#$W}"),
        ("ENV N=\"x${V/*/y}\"", "${V/*/y}"),
        ("ARG N=${V#\\x}", "${V#\\x}"),
        ("ENV N=${V:?$W}", "${V:?$W}"),
    ] {
        let expected = format!("line 3: the builder does not read {construct} as BuildKit does");
        let text = format!("FROM debian AS a\n\n{written}\n");
        let sentence = refused(&text);
        assert!(sentence.contains(&expected), "{sentence}");
        assert_eq!(images_of(&(text + "FROM b\n")), ["b"]);
    }
    // Where nothing can be put in other words.
    let text = "# escape=`\nFROM debian\nENV N=${V#v}\n";
    assert!(refused(text).contains("line 3: the builder does not read ${V#v} as BuildKit does"));
}

#[test]
fn the_escape_directive_counts_behind_other_directives() {
    let text = "# syntax=docker/dockerfile:1\n# escape=`\nFROM debian\nRUN a `\n b\n";
    assert_eq!(given(text), format!("# escape=`\n{text}"));
    assert_eq!(look_at("# Escape=`\nFROM debian\nRUN a `\n b\n").unwrap().rewritten, None);
}

#[test]
fn options_that_the_builder_lacks_are_left_out_or_refused_by_line() {
    for (written, expected) in [
        ("RUN --security=sandbox --network=none a b", "RUN --network=none a b"),
        ("ADD --unpack=false --chown=1 x.tgz /x", "COPY --chown=1 x.tgz /x"),
        ("ADD --unpack=false https://a.b/x.tgz /x", "ADD https://a.b/x.tgz /x"),
        ("ADD --unpack x.tgz /x", "ADD x.tgz /x"),
    ] {
        assert_eq!(given(&format!("FROM debian\n{written}\n")), format!("FROM debian\n{expected}\n"));
    }
    for (written, flag) in [
        ("RUN --security=insecure a", "--security=insecure of RUN"),
        ("RUN --device=vendor.com/gpu=all a", "--device=vendor.com/gpu=all of RUN"),
        ("ADD --unpack=true https://a.b/x.tgz /x", "--unpack=true of ADD"),
        ("ADD --unpack=false https://a.b/x.tgz y.tgz /x", "--unpack=false of ADD"),
    ] {
        let text = format!("FROM debian AS a\n{written}\n");
        let sentence = refused(&text);
        assert!(sentence.contains(&format!("line 2: the builder does not take {flag}")), "{sentence}");
        assert_eq!(images_of(&(text + "FROM b\n")), ["b"]);
    }
}

#[test]
fn git_repositories_are_refused_before_a_microvm_is_booted() {
    for source in [
        "https://github.com/owner/repo.git#v1",
        "https://github.com/owner/repo.git?tag=v1",
        "git@github.com:owner/repo.git",
        "ssh://git@host/repo",
        "git://host/repo#main:dir",
    ] {
        let sentence = refused(&format!("FROM debian\nADD --keep-git-dir=true {source} /src\n"));
        assert!(
            sentence.contains(&format!("line 2: the builder has no git to fetch {source} with; ADD an")),
            "{sentence}"
        );
    }
    assert_eq!(
        images_of("FROM debian\nADD https://github.com/a/b/archive/v1.tar.gz x.git /src/\n"),
        ["debian"]
    );
}
