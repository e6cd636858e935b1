"""What a guest can reach: the internet and names, and nothing that is the host's, a
neighbour's or private."""
import subprocess

import pytest

from endpoint import Clients
from harness import wait_until
from network import (ALLOWED, BANNER_PORT, CLOSED, HOST_ADDRESS, PUBLIC, host_addresses, host_service, outside_world,
                     uplinks)


@pytest.fixture(scope="module", autouse=True)
def outside():
    with outside_world() as name:
        yield name


def test_names_are_resolved_through_the_host(shared):
    assert shared.sh("cat /etc/resolv.conf") == "nameserver 169.254.53.53"
    assert shared.sh("getent ahostsv4 public.hearth.test").split()[0] == PUBLIC
    assert "status 2" in shared.sh("getent hosts nowhere.hearth.test; echo status $?")


def test_the_internet_can_be_reached_by_name_and_address(shared):
    by_name, by_address, nobody = f"public.hearth.test:{BANNER_PORT}", f"{PUBLIC}:{BANNER_PORT}", f"{PUBLIC}:1"
    assert shared.reaches(by_name, by_address, nobody) == {
        by_name: "open: outside", by_address: "open: outside", nobody: "closed: Connection refused"}


def test_connections_work_after_a_resume(run):
    microvm = run()
    microvm.suspend()
    place = f"public.hearth.test:{BANNER_PORT}"
    assert microvm.reaches(place) == {place: "open: outside"}


def connections_past_the_agent(microvm) -> list[str]:
    """Those that the server has open to the app, as the microVM's network namespace shows them."""
    command = ["nsenter", f"--net=/proc/{microvm.vmm()}/ns/net", "ss", "-tnH", "dst", "169.254.241.2"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_guests_kernel_leads_requests_to_the_app(run):
    """What listens on 127.0.0.1 alone is reached from 127.0.0.1, and the agent has
    no part in it."""
    microvm = run()
    assert microvm.sh('echo "$PEER"; grep -c 0100007F:1F91 /proc/net/tcp').split()[0] == "127.0.0.1"
    assert microvm.count() == 1
    assert connections_past_the_agent(microvm), "the connection of the counter's app is kept"
    # A connection that looks the same but was made inside of the guest.
    inside = "perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(\"127.0.0.1:8080\") ? \"open\" : $!'"
    assert microvm.sh(inside) == "open"


# An app of Node's, say, listens on the first address of `localhost`.
ON_IPV6 = """
use IO::Socket::IP;
# Without the flags, as AI_ADDRCONFIG does not count the addresses of loopback.
my %address = (LocalHost => '::1', LocalPort => 8092, GetAddrInfoFlags => 0);
my $listener = IO::Socket::IP->new(%address, Listen => 9, ReuseAddr => 1) or die "cannot listen: $@";
while (my $client = $listener->accept) {
    1 while defined($_ = <$client>) && !/^\\r?$/;
    print $client "HTTP/1.1 200 OK\\r\\nConnection: close\\r\\n\\r\\nasked by ", $client->peerhost;
}
"""


def test_what_listens_on_the_loopback_of_ipv6_alone_is_reached(shared):
    assert shared.request("/", port=8092).status == 502
    shared.sh(f"cat >/tmp/six.pl <<'END'\n{ON_IPV6}END\nsetsid perl /tmp/six.pl </dev/null >/tmp/six.log 2>&1 &")
    wait_until(lambda: shared.request("/", port=8092).status == 200, 30, "the listener on ::1 is reached", pause=0.3)
    assert shared.request("/", port=8092).text == "asked by ::1"
    assert shared.sh("grep -c ':1F9C .* 0A' /proc/net/tcp", check=False) == "0", "it listens on IPv4 too"


def test_connections_of_a_former_life_are_over_for_the_app_too(run):
    microvm = run()
    assert microvm.count() == 1
    # Of the app's own port, established.
    established = "grep -c ':1F90 0100007F:.... 01' /proc/net/tcp"
    assert microvm.sh(established, check=False) == "1"
    microvm.suspend()
    assert microvm.sh(established, check=False) == "0"


def test_private_and_special_ranges_are_closed(shared):
    assert shared.reaches_any(f"{address}:{BANNER_PORT}" for address in (ALLOWED, *CLOSED)) == {}


def test_the_host_is_out_of_reach(shared, server):
    own = {HOST_ADDRESS, "10.213.77.1", "192.168.241.1", "169.254.254.1", "169.254.53.53"}
    api_port = server.api_url.rsplit(":", 1)[1]
    with host_service() as port:
        assert shared.reaches_any(f"{address}:{port}" for address in {*host_addresses(), *own}) == {}
    assert shared.reaches_any(f"{address}:{port}" for address in own for port in (api_port, server.endpoint_port)) == {}


def test_the_name_server_answers_names_only(shared):
    assert shared.reaches_any(f"169.254.53.53:{port}" for port in (22, 80, 1024, 8080)) == {}


def test_other_microvms_are_out_of_reach(shared, run):
    other = run()
    assert other.count() == 1
    ends = [address for pair in uplinks() for address in pair]
    assert len(ends) >= 4
    assert shared.reaches_any(f"{address}:{port}" for address in ends for port in (8080, 8081)) == {}
    assert other.count() == 2


def test_the_operator_may_open_a_private_range(another_server, image):
    server = another_server({"network": {"allow_egress_to": ["10.213.77.0/24"]}})
    microvm = Clients(server).run(image)
    allowed = f"{ALLOWED}:{BANNER_PORT}"
    with host_service() as port:
        # The host's own address in that range stays the host's.
        places = [allowed, f"{CLOSED[0]}:{BANNER_PORT}", f"10.213.77.1:{port}"]
        assert microvm.reaches_any(places) == {allowed: "open: outside"}
    microvm.terminate()
