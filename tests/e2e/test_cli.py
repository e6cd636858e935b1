"""The command line where it does more than one call of the API: building, and building again."""
import json
import shutil
import subprocess

from harness import HEARTH, ROOT, wait_until


def hearth(server, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess:
    return subprocess.run([HEARTH, *arguments], env=server.env(), capture_output=True, text=True, timeout=timeout)


def test_building_again_adds_a_version(clients, server, small, tmp_path):
    """The first version fails in its Dockerfile; what is built then runs. The name is the
    directory's owner's to reuse."""
    directory = tmp_path / "again"
    shutil.copytree(ROOT / "examples/perl-counter", directory)
    dockerfile = directory / "Dockerfile"
    good = dockerfile.read_text().replace("debian:trixie-slim", "small:1")
    dockerfile.write_text(good + "RUN exit 3\n")
    failed = hearth(server, "image", "build", str(directory), "--name", "again")
    assert failed.returncode == 1, failed
    assert "the build of again failed: CONTAINER_BUILD_FAILED" in failed.stderr

    dockerfile.write_text(good)
    built = hearth(server, "image", "build", str(directory), "--name", "again", "--json")
    assert built.returncode == 0, built
    build = json.loads(built.stdout)
    assert (build["imageVersion"], build["buildState"]) == ("2.0", "SUCCESSFUL")
    image = clients.microvms.get_microvm_image(imageIdentifier=clients.image_arn("again"))
    assert (image["state"], image["latestActiveImageVersion"]) == ("UPDATED", "2.0")

    refused = hearth(server, "image", "build", str(directory), "--name", "again",
                     "--build-role", "arn:aws:iam::999999999999:role/else")
    assert refused.returncode == 1
    assert "is not authorized to perform: iam:PassRole" in refused.stderr
    clients.delete_image(clients.image_arn("again"))


def test_curl_tells_by_its_status_who_refused(server, shared):
    """As `curl`, it takes an answer of the app for a success, whatever it says; the endpoint's
    own refusal is none."""
    served = hearth(server, "curl", shared.id, "/count")
    assert (served.returncode, served.stderr) == (0, "") and int(served.stdout) > 0
    refused = hearth(server, "curl", shared.id, "--port", "9999")
    assert refused.returncode == 1, refused
    assert refused.stderr == ("hearth: the endpoint answered 502 Bad Gateway (APP_CONNECT_FAILED): nothing listens on port 9999; "
                              "-p names another\n")
    shown = hearth(server, "curl", shared.id, "--port", "9999", "--json")
    assert (shown.returncode, json.loads(shown.stdout)["status"]) == (1, 502), shown
    listener = """
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 8093, Listen => 9, ReuseAddr => 1) or die $@;
while (my $client = $listener->accept) {
    1 while defined($_ = <$client>) && !/^\\r?$/;
    print $client "HTTP/1.1 503 Busy\\r\\nContent-Length: 0\\r\\nConnection: close\\r\\n\\r\\n";
}
"""
    shared.sh(f"cat >/tmp/busy.pl <<'END'\n{listener}END\nsetsid perl /tmp/busy.pl </dev/null >/dev/null 2>&1 &")
    wait_until(lambda: shared.request("/", port=8093).status == 503, 30, "the app that is busy answers", pause=0.3)
    for options, status in (((), 0), (("--fail",), 1)):
        assert hearth(server, "curl", shared.id, "--port", "8093", *options).returncode == status, options


def test_logs_give_terminals_no_orders(server, shared):
    shared.sh(r"printf 'owned \033]0;title\007\033[31mred\n' >/proc/1/fd/1")

    def lines(*options: str) -> list[str]:
        text = hearth(server, "logs", shared.id, *options).stdout
        return [line for line in text.split("\n") if line.startswith("owned")]
    assert wait_until(lines, 20, "the line is stored", pause=0.3) == [r"owned \u001b]0;title\u0007\u001b[31mred"]
    assert lines("--raw") == ["owned \x1b]0;title\x07\x1b[31mred"]
