"""Builds: a base image from a registry, failures inside the build microVM, reused layers,
trusted certificates."""
import platform
import socket
import time

import pytest

from artifact import zipped
from harness import ACCOUNT, REGION
from registry import small_debian

# Perl of the small base image; /bin/sh is dash.
SERVER = """
use IO::Socket::INET;
$| = 1;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8080, Listen => 9, ReuseAddr => 1) or die $@;
while (my $client = $listener->accept) {
    1 while defined($_ = <$client>) && !/^\\r?$/;
    open my $status, '<', '/proc/self/status';
    my $facts = join ' ', $>, $) + 0, readlink('/proc/self/cwd'), grep /^CapEff/, <$status>;
    print $client "HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\n$facts";
}
"""
DOCKERFILE = """\
ARG BASE=small
FROM ${BASE}:1 AS first
RUN perl -e 'print "an early layer: ", 6 * 7, "\\n"'
ENV SECOND=one
FROM first
USER app
WORKDIR /home/app
COPY app.pl /app.pl
"""
FAILS = DOCKERFILE + "RUN echo this is why; exit 9\n"
EXITS = DOCKERFILE + 'CMD ["perl", "/app.pl"]\n'
GROUP = "/aws/lambda-microvms/layers"


@pytest.fixture(scope="module")
def build(clients, small):
    """Builds the image `layers`, after deleting the one before unless it is to be updated; its ARN,
    state, reason and the lines of its log."""
    clients.s3.create_bucket(Bucket="layers")

    def start(dockerfile: str, app: str, update: bool = False, **more) -> tuple[str, str, str, list[str]]:
        if not update:
            clients.delete_image(clients.image_arn("layers"))
        clients.s3.put_object(Bucket="layers", Key="code.zip", Body=zipped({"Dockerfile": dockerfile, "app.pl": app}))
        began = int(time.time() * 1000)
        if update:
            version = clients.microvms.update_microvm_image(
                imageIdentifier=clients.image_arn("layers"), codeArtifact={"uri": "s3://layers/code.zip"},
                baseImageArn=f"arn:aws:lambda:{REGION}:aws:microvm-image:al2023-1",
                buildRoleArn=f"arn:aws:iam::{ACCOUNT}:role/build", resources=[{"minimumMemoryInMiB": 512}],
            )["imageVersion"]
            arn = clients.image_arn("layers")
            state, reason = clients.wait_built(arn, version=version)
        else:
            arn = clients.create_image("layers", "s3://layers/code.zip", **more)
            state, reason = clients.wait_built(arn)
        return arn, state, reason, clients.log_lines(GROUP, since=began)
    yield start
    clients.delete_image(clients.image_arn("layers"))


def cached_steps(lines: list[str]) -> int:
    return sum("Using cache" in line for line in lines)


def test_failing_steps_then_an_exiting_app_then_a_good_one(clients, build):
    """One image in three attempts; each reuses the layers of the one before."""
    arn, state, reason, lines = build(FAILS, "exit 7")
    assert (state, reason) == (
        "CREATE_FAILED",
        'CONTAINER_BUILD_FAILED: The container image build failed at "RUN echo this is why; exit 9": exit status 9. '
        "Its last line of output: this is why")
    assert cached_steps(lines) == 0
    assert "an early layer: 42" in lines
    assert "this is why" in lines[-12:], lines
    assert any("exit status 9" in line for line in lines[-6:]), lines

    arn, state, reason, lines = build(EXITS, "print STDERR \"giving up\\n\"; exit 7", update=True)
    assert (state, reason) == ("UPDATE_FAILED", "Container Stopped with Exit Code: 7")
    assert cached_steps(lines) >= 2, lines
    assert "giving up" in lines
    assert "an early layer: 42" not in lines

    arn, state, reason, lines = build(EXITS, SERVER, update=True)
    assert (state, reason) == ("UPDATED", None)
    # Everything but the last COPY comes from the cache.
    assert cached_steps(lines) >= 4, lines
    microvm = clients.run(arn)
    facts = microvm.request("/").text.split()
    microvm.terminate()
    assert facts == ["4242", "4343", "/home/app", "CapEff:", "0000000000000000"]


# As tools write it that pin images, with what the builder reads otherwise than BuildKit.
PINNED = """\
ARG BUILDPLATFORM=linux/MACHINE
FROM --platform=$BUILDPLATFORM small:1@DIGEST AS first
FROM small:latest@DIGEST
COPY --from=small:other@DIGEST /etc/passwd /copied
COPY --from=first /etc/group /group
ENV FULL=${IMAGE##*/} HEAD=${IMAGE%%/*} NAME="${IMAGE%:*}" TAIL=${IMAGE#*/} VERSION=${IMAGE##*:} TO=${IMAGE/a*x/b}
ARG EMPTY=
ENV DASH=<${EMPTY-x}> PLUS=${EMPTY+y}
RUN --mount=type=bind,from=small:1@DIGEST,target=/mounted \\
    perl -e 'print "$_\\n" for "pinned", -e "/mounted/etc/passwd", -e "/copied", @ENV{qw(FULL HEAD NAME TAIL VERSION TO DASH PLUS)}'; exit 9
"""


def test_images_pinned_by_tag_and_digest_are_pulled_once(build, small):
    machine = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
    dockerfile = PINNED.replace("DIGEST", small).replace("MACHINE", machine)
    _, state, reason, lines = build(dockerfile, "")
    assert state == "CREATE_FAILED" and "exit status 9" in reason, reason
    printed = lines[lines.index("pinned"):][:11]
    assert printed == ["pinned", "1", "1", "x:1.2", "acme", "acme/app/x", "app/x:1.2", "1.2", "b:1.2", "<>", "y"], printed
    assert lines.count("Starting the build microVM") == 1
    assert not [line for line in lines if "ARG hearth_value" in line], lines


def test_a_base_image_from_a_registry_that_only_the_ca_bundle_vouches_for(build, secure_registry):
    secure_registry.push("library/small", "2", small_debian(), {"Env": ["PATH=/usr/bin:/bin"]})
    _, state, reason, lines = build("FROM secure.hearth.test/library/small:2\nRUN echo pulled; exit 9\n", "")
    assert state == "CREATE_FAILED" and reason.startswith("CONTAINER_BUILD_FAILED"), reason
    assert "pulled" in lines


def test_no_base_image_is_asked_for_inside_the_host(build):
    """Whoever writes the Dockerfile names the registry: an open port of the host looks
    like a closed one."""
    reasons = []
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        for port in (listener.getsockname()[1], closed.getsockname()[1]):
            _, state, reason, _ = build(f"FROM 127.0.0.1:{port}/internal:1\n", "")
            assert state == "CREATE_FAILED", reason
            reasons.append(reason.replace(str(port), "PORT"))
        listener.settimeout(0.1)
        with pytest.raises(TimeoutError):
            listener.accept()
    assert reasons[0] == reasons[1] and "could not be reached" in reasons[0], reasons


def test_a_ready_hook_that_never_succeeds(clients, build):
    hooks = {"port": 9000, "microvmImageHooks": {"ready": "ENABLED", "readyTimeoutInSeconds": 3}}
    arn, state, reason, _ = build('FROM small:1\nCOPY app.pl /app.pl\nCMD ["perl", "/app.pl"]\n', SERVER, hooks=hooks)
    assert (state, reason) == ("CREATE_FAILED", "Ready hook invocation timed out after PT3S")
