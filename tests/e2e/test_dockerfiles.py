"""Builds: of the prepared Debian, with a Dockerfile as people write it; one whose VMM is killed."""
import os
import platform
import signal

from artifact import zipped
from harness import processes, wait_until
from test_build import SERVER

# What people write and the builder does not take, or took otherwise. The registry of the first
# stage does not exist.
PEOPLES = """\
# syntax=docker/dockerfile:1
ARG SUITE=trixie
FROM registry.invalid/dev/tools:1 AS unneeded
RUN false
FROM --platform=$BUILDPLATFORM debian:${SUITE}${FLAVOUR--slim} AS Parent
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN perl - one <<'PERL' >/facts && cat <<EOF >>/facts
print "perl $ARGV[0]\\n";
PERL
shell ${BASH_VERSION:+bash} $(if false | true; then echo no; fi)pipefail
EOF
ONBUILD RUN echo triggered >>/facts
FROM parent AS for-amd64
FROM parent AS for-arm64
FROM for-${TARGETARCH}
ARG TARGETARCH
ENV SET=${UNSET-dash}
COPY --link --chmod=a+rx,go-w tree/ /tree/
COPY --chmod=u=rwx,go=x <<-'SCRIPT' /script
\t#!/bin/sh
\tSCRIPT
COPY --from=PARENT /etc/debian_version /tree/version
COPY app.pl /
RUN echo $TARGETARCH $SET $(stat -c %a /tree/file /script) >>/facts
HEALTHCHECK CMD false
EXPOSE 8080/tcp
ENTRYPOINT [[ -e /facts ]] && exec perl /app.pl
"""
# It listens on another port before the one that the Dockerfile exposes.
SHOWS_FACTS = SERVER.replace("my $listener", "my $first = IO::Socket::INET->new(LocalPort => 3000, Listen => 9);\nmy $listener")
SHOWS_FACTS = SHOWS_FACTS.replace("'/proc/self/status'", "'/facts'").replace("grep /^CapEff/, <$status>", "<$status>")


def test_a_dockerfile_as_people_write_it(clients):
    clients.s3.create_bucket(Bucket="peoples")
    files = {"Dockerfile": PEOPLES, "app.pl": SHOWS_FACTS, "tree/file": "x"}
    clients.s3.put_object(Bucket="peoples", Key="code.zip", Body=zipped(files))
    arn = clients.create_image("peoples", "s3://peoples/code.zip")
    assert clients.wait_built(arn) == ("CREATED", None)
    microvm = clients.run(arn)
    facts = microvm.request("/").text.split()[3:]
    microvm.terminate()
    clients.delete_image(arn)
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    assert facts == ["perl", "one", "shell", "bash", "pipefail", "triggered", machine, "dash", "755", "711"]
    lines = clients.log_lines("/aws/lambda-microvms/peoples")
    assert "Taking the snapshot: port 8080 listens" in lines, lines[-9:]
    assert not [line for line in lines if "hearth-ca.crt" in line or "not supported for OCI" in line]


def test_a_vmm_that_is_killed_during_a_build(clients, small):
    clients.s3.create_bucket(Bucket="endless")
    clients.s3.put_object(Bucket="endless", Key="code.zip", Body=zipped({
        "Dockerfile": "FROM small:1\nRUN echo begun && perl -e 'sleep 600'\n"}))
    arn = clients.create_image("endless", "s3://endless/code.zip")
    build = clients.microvms.list_microvm_image_builds(imageIdentifier=arn, imageVersion="1.0")["items"][0]["buildId"]
    group = "/aws/lambda-microvms/endless"
    wait_until(lambda: "begun" in clients.log_lines(group, stream=build), 300, "the RUN line has begun", pause=0.5)
    os.kill(processes(f"build-{build}")[0], signal.SIGKILL)
    state, reason = clients.wait_built(arn, timeout=10)
    assert (state, reason) == (
        "CREATE_FAILED", "INTERNAL_PLATFORM_ERROR: Could not run the build microVM: the virtual machine monitor ended "
        "unexpectedly (status 137).")
    clients.delete_image(arn)
