"""What a microVM reaches that is held to an egress policy, and what it is told of the rest."""
import json
import subprocess
import time

import pytest
from botocore.exceptions import ClientError

from artifact import zipped
from endpoint import Clients, Microvm, again
from harness import ACCOUNT, HEARTH, REGION, wait_until
from network import ALLOWED, BANNER_PORT, HOLD_PORT, PUBLIC, outside_world

NAME = "public.hearth.test"
OPEN = "open: outside"
REFUSED = "closed: Connection refused"
NO_EGRESS = f"arn:aws:lambda:{REGION}:aws:network-connector:aws-network-connector:NO_EGRESS"


@pytest.fixture(scope="module", autouse=True)
def outside():
    with outside_world() as name:
        yield name


def hearth(server, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run([HEARTH, *arguments], env=server.env(), input=stdin, capture_output=True, text=True, timeout=60)


def set_rules(server, name: str, *rules: dict) -> str:
    """Makes a policy, or replaces its rules; its ARN."""
    done = hearth(server, "egress", "set", name, "--rules", "-", stdin=json.dumps(rules))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def domain(name: str, *ports: int) -> dict:
    return {"domain": name, "ports": [str(port) for port in ports]}


# Stays connected, and says so when that is over.
HELD = """
use IO::Socket::INET;
$| = 1;
my $socket = IO::Socket::INET->new($ARGV[0]) or die "cannot connect: $@";
sysread $socket, my $banner, 9;
print $banner;
$SIG{PIPE} = 'IGNORE';
1 while syswrite($socket, 'x') && select(undef, undef, undef, 0.1) == 0;
print "cut\\n";
"""


def log(server, microvm) -> list[dict]:
    done = hearth(server, "egress", "log", microvm.id, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["decisions"]


def test_a_name_opens_its_address_and_nothing_else(server, run):
    arn = set_rules(server, "by-name", domain("*.hearth.test", BANNER_PORT))
    microvm = run(egressNetworkConnectors=[arn])
    by_name, by_address, other_port = f"{NAME}:{BANNER_PORT}", f"{PUBLIC}:{BANNER_PORT}", f"{PUBLIC}:{HOLD_PORT}"
    assert microvm.reaches(by_address) == {by_address: REFUSED}
    assert microvm.reaches(by_name) == {by_name: OPEN}
    assert microvm.reaches(by_address, other_port) == {by_address: OPEN, other_port: REFUSED}
    began = time.monotonic()
    assert "status 2" in microvm.sh("getent hosts example.com; echo status $?")
    assert time.monotonic() - began < 5, "a refused name is an answer, and not a wait"

    def logged():
        made = {(it["verdict"], it["protocol"], it["name"], it["address"], it["port"]) for it in log(server, microvm)}
        return made >= {("ALLOWED", "dns", NAME, None, None), ("REFUSED", "dns", "example.com", None, None),
                        ("ALLOWED", "tcp", NAME, PUBLIC, BANNER_PORT), ("REFUSED", "tcp", None, PUBLIC, HOLD_PORT)}
    wait_until(logged, 10, "every decision is in the log")
    shown = hearth(server, "egress", "log", microvm.id).stdout
    assert "no rule allows it" in shown and "rule 1" in shown, shown


ASK = """
use IO::Socket::INET;
my ($place, $host) = @ARGV;
my $socket = IO::Socket::INET->new("$place:80") or die "cannot connect: $@";
print $socket "GET / HTTP/1.1\\r\\nHost: $host\\r\\nConnection: close\\r\\n\\r\\n";
local $/;
my ($status) = <$socket> =~ m{^HTTP/1.1 (\\d+)};
print $status;
"""


def test_an_address_that_sites_share_is_open_for_the_allowed_one(server, run):
    arn = set_rules(server, "one-site", {"domain": NAME})
    microvm = run(egressNetworkConnectors=[arn])
    microvm.sh(f"cat >/tmp/ask.pl <<'END'\n{ASK}END")
    assert microvm.sh(f"perl /tmp/ask.pl {NAME} {NAME}") == "200"
    assert microvm.sh(f"perl /tmp/ask.pl {NAME} other.hearth.test") == "403"
    refused = [it for it in log(server, microvm) if it["name"] == "other.hearth.test"]
    assert refused and refused[0]["verdict"] == "REFUSED" and refused[0]["address"] == PUBLIC, refused


def test_rules_change_while_the_microvm_runs(server, run):
    arn = set_rules(server, "changing", domain(NAME, BANNER_PORT, HOLD_PORT))
    microvm = run(egressNetworkConnectors=[arn])
    microvm.sh(f"cat >/tmp/held.pl <<'END'\n{HELD}END\nsetsid perl /tmp/held.pl {NAME}:{HOLD_PORT} >/tmp/held 2>&1 </dev/null &")
    wait_until(lambda: "outside" in microvm.sh("cat /tmp/held"), 20, "the connection is there")

    set_rules(server, "changing", {"cidr": f"{PUBLIC}/32", "protocol": "tcp", "ports": [str(BANNER_PORT)]})
    began = time.monotonic()
    assert microvm.reaches(f"{PUBLIC}:{HOLD_PORT}", f"{PUBLIC}:{BANNER_PORT}") == {
        f"{PUBLIC}:{HOLD_PORT}": REFUSED, f"{PUBLIC}:{BANNER_PORT}": OPEN}
    wait_until(lambda: "cut" in microvm.sh("cat /tmp/held"), 10, "a connection that is no longer allowed is cut")
    print(f"cut within {time.monotonic() - began:.1f} s")
    assert "status 2" in microvm.sh(f"getent hosts {NAME}; echo status $?"), "no rule has a name any more"
    events = hearth(server, "events", "--json").stdout
    assert '"what":"RULES"' in events.replace(" ", ""), events[-2000:]


def test_a_policy_stays_over_a_suspend_and_a_restart_of_the_server(another_server, image):
    server = another_server({})
    arn = set_rules(server, "lasting", domain(NAME, BANNER_PORT))
    microvm = Clients(server).run(image, egressNetworkConnectors=[arn])
    open_by_name = {f"{NAME}:{BANNER_PORT}": OPEN}
    assert microvm.reaches(*open_by_name) == open_by_name
    server.kill()
    clients = again(server, microvm)
    assert microvm.reaches(*open_by_name) == open_by_name
    microvm.suspend()
    set_rules(server, "lasting")
    assert microvm.reaches(f"{PUBLIC}:{BANNER_PORT}") == {f"{PUBLIC}:{BANNER_PORT}": REFUSED}
    with pytest.raises(ClientError, match="is in use by MicroVMs"):
        clients.core.delete_network_connector(Identifier=arn)
    microvm.terminate()
    assert hearth(server, "egress", "delete", "lasting").returncode == 0


def test_what_is_closed_to_all_guests_no_rule_opens(server, run):
    arn = set_rules(server, "everything", {"cidr": "0.0.0.0/0"})
    microvm = run(egressNetworkConnectors=[arn])
    assert microvm.reaches(f"{PUBLIC}:{BANNER_PORT}", f"{ALLOWED}:{BANNER_PORT}") == {
        f"{PUBLIC}:{BANNER_PORT}": OPEN, f"{ALLOWED}:{BANNER_PORT}": REFUSED}
    wait_until(lambda: any(it["reason"] == "it is closed to guests" for it in log(server, microvm)), 10, "the log says why")


def test_no_egress(server, clients, image):
    done = hearth(server, "run", image.rsplit(":", 1)[1], "--egress", "none", "--wait", "--json")
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["egressNetworkConnectors"] == [NO_EGRESS]
    microvm = Microvm(clients, answer["microvmId"], answer["endpoint"])
    assert microvm.reaches_any([f"{PUBLIC}:{BANNER_PORT}"]) == {}
    microvm.terminate()


@pytest.mark.parametrize("rule, sentence", [
    ({"domain": "*.com"}, "Rule 1 is not valid: \"*.com\" would allow names that anybody can register"),
    ({"cidr": "192.0.2.1/24"}, "192.0.2.1/24 has bits set behind its prefix; 192.0.2.0/24 may be meant"),
    ({"domain": "a b"}, "is not a domain name such as example.com or *.example.com"),
    ({"domain": "example.com", "ports": ["70000"]}, "is not a port from 1 to 65535"),
    ({}, "a rule has either a domain or a cidr"),
])
def test_rules_that_are_none(server, rule, sentence):
    done = hearth(server, "egress", "set", "wrong", "--rules", "-", stdin=json.dumps([rule]))
    assert done.returncode == 1 and sentence in done.stderr, done.stderr
    assert hearth(server, "egress", "show", "wrong").returncode == 1, "nothing was made"


def test_a_build_is_held_to_the_policy_of_its_image(server, clients):
    arn = set_rules(server, "build", domain(NAME, BANNER_PORT))
    lines = ["FROM debian:trixie-slim",
             f"RUN perl -MIO::Socket::INET -e 'IO::Socket::INET->new(\"{NAME}:{BANNER_PORT}\") or die \"no: $@\"'",
             f"RUN perl -MIO::Socket::INET -e 'IO::Socket::INET->new(\"{PUBLIC}:{HOLD_PORT}\") and die \"reached\"; die \"held\"'"]
    clients.s3.create_bucket(Bucket="egress")
    clients.s3.put_object(Bucket="egress", Key="a.zip", Body=zipped({"Dockerfile": "\n".join(lines) + "\n"}))
    image = clients.create_image("egress-build", "s3://egress/a.zip", egressNetworkConnectors=[arn])
    state, reason = clients.wait_built(image)
    assert state == "CREATE_FAILED" and "held at" in reason, reason
    refused = f"The egress policy refused {PUBLIC} port {HOLD_PORT} over tcp: no rule allows it."
    assert refused in clients.log_lines("/aws/lambda-microvms/egress-build")
    clients.microvms.delete_microvm_image(imageIdentifier=image)
