"""What a clone must not share with its siblings or its former life: time, randomness, connections;
and what it is told."""
import concurrent.futures
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

import images
from artifact import zipped
from endpoint import Clients
from harness import HEARTH, REGION, wait_until
from network import HOLD_PORT, PUBLIC, outside_world

NAME, CODE = "snapshot", "s3://code/snapshot-all.zip"
ECONNABORTED = "103"
TOOL = "/srv/tools/ld.so --library-path /srv/tools /srv/tools"


@pytest.fixture(scope="module", autouse=True)
def outside():
    with outside_world() as name:
        yield name


@pytest.fixture(scope="module")
def built(clients):
    """ARN of an image with the default capabilities, which is built here, and of one with all, which
    is kept between sessions."""
    arns = [clients.create_image(NAME, CODE, **images.OUTSIDE), clients.image_arn("snapshot-all")]
    assert clients.wait_built(arns[0]) == ("CREATED", None)
    yield arns
    for arn in arns:
        clients.end_microvms(arn)
    clients.delete_image(arns[0])


@pytest.fixture(scope="module")
def run_one(clients, built):
    """Starts microVMs of the image with the default capabilities; they end with the module."""
    def start(**arguments):
        return clients.run(built[0], **arguments)
    return start


@pytest.fixture(scope="module")
def privileged(clients, built):
    return clients.run(built[1])


def clocks(microvm) -> tuple[float, list[float]]:
    """Seconds by which the guest's wall clock is wrong for certain, and its three clocks; of the
    quickest of several requests."""
    samples = []
    for _ in range(8):
        before = time.time()
        there = [float(value) for value in microvm.request("/clocks").text.split()]
        after = time.time()
        samples.append((after - before, max(0.0, before - there[0], there[0] - after), there))
    return min(samples)[1:]


def test_the_wall_clock_is_right_after_launch_and_resume(run_one):
    microvm = run_one()
    error, first = clocks(microvm)
    assert error < 0.05
    microvm.suspend()
    began = time.time()
    # Long enough for a clock that stood still to be seen.
    wait_until(lambda: time.time() > began + 3, 10, "three seconds have passed")
    error, second = clocks(microvm)
    assert error < 0.05
    wall, *others = (after - before for before, after in zip(first, second))
    assert wall > 3
    # The two other clocks stand still while the microVM is suspended.
    for passed in others:
        assert 0 < passed < wall - 2.5, (wall, others)
    microvm.terminate(wait=False)


def test_clocks_run_as_fast_as_the_hosts(run_one):
    """The guest's kernel need not find out how fast its time stamp counter is."""
    microvm = run_one()
    microvm.request("/clocks")
    samples = []
    began = time.time()
    while time.time() < began + 6:
        before = time.time()
        there = float(microvm.request("/clocks").text.split()[1])
        samples.append((time.time() - before, there - (before + time.time()) / 2))
    half = len(samples) // 2
    # Differences between the clocks, each from the quickest request of its half: some
    # three seconds apart.
    drift = min(samples[half:])[1] - min(samples[:half])[1]
    assert abs(drift) < 0.06, samples
    microvm.terminate(wait=False)


def test_connections_to_elsewhere_end_and_those_inside_live(run_one):
    microvm = run_one()
    expected = f"outer={ECONNABORTED} inner=open again=open"
    assert microvm.request("/connections").text == expected
    microvm.suspend()
    assert microvm.request("/connections").text == expected


def test_clones_that_start_together_draw_different_numbers(run_one):
    microvms = [run_one(wait=False) for _ in range(4)]
    draws = {
        "getrandom": "head -c 16 /dev/urandom | od -An -tx1",
        "uuid": "cat /proc/sys/kernel/random/uuid",
        "TLS key": "/srv/openssl ecparam -name prime256v1 -genkey -noout",
    }
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            for what, command in draws.items():
                drawn = list(pool.map(lambda microvm: microvm.sh(command), microvms))
                assert len(set(drawn)) == 4 and all(drawn), f"{what}: {drawn}"
            for microvm in microvms:
                microvm.suspend()
            again = list(pool.map(lambda microvm: microvm.sh(draws["getrandom"]), microvms))
            assert len(set(again)) == 4
    finally:
        for microvm in microvms:
            microvm.terminate(wait=False)


def test_the_kernel_notices_that_it_is_a_clone(privileged):
    """The new generation id of each restore reaches the guest's driver."""
    log = privileged.sh("dmesg")
    assert log.count("crng reseeded due to virtual machine fork") == 1, log[-2000:]
    privileged.suspend()
    assert privileged.sh("dmesg").count("crng reseeded due to virtual machine fork") == 2


def test_an_app_that_closes_the_way_past_the_agent_is_reached_through_it(privileged):
    setting = "/proc/sys/net/ipv4/conf/eth0/route_localnet"
    # Not at once, as the answer to this command goes that way.
    privileged.sh(f"(sleep 0.5; echo 0 >{setting}) >/dev/null 2>&1 &")
    time.sleep(1)
    assert privileged.sh(f"cat {setting}") == "0"
    privileged.suspend()
    assert privileged.sh(f"echo 1 >{setting}; cat {setting}") == "1"


def test_all_capabilities(privileged):
    """What a microVM with `additionalOsCapabilities: ["ALL"]` may do."""
    status = privileged.sh("cat /proc/1/status")
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{name}:\t000001ffffffffff" in status
    assert " /sys/fs/cgroup cgroup2 rw," in privileged.sh("cat /proc/mounts")
    controllers = privileged.sh("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert {"cpuset", "cpu", "io", "memory", "hugetlb", "pids"} <= set(controllers)
    privileged.sh("cd /sys/fs/cgroup && echo '+memory +pids' >cgroup.subtree_control && mkdir -p some"
                  " && echo 64M >some/memory.max && sh -c 'echo $$ >some/cgroup.procs && grep -q some /proc/self/cgroup'")
    for command in ("mount -t tmpfs none /mnt", "unshare --net true", "ulimit -n 4096", "hostname -b another || echo another"
                    " >/proc/sys/kernel/hostname", "echo 1 >/proc/sys/net/ipv4/ip_forward", "head -c 0 /dev/fuse", "dmesg"):
        privileged.sh(command)


# As docker, k3s and the like ask the kernel for them, in a network namespace that
# leaves the app's as it is.
LINKS = ("bridge0 type bridge", "veth0 type veth peer name veth1", "dummy0 type dummy", "vxlan0 type vxlan id 9 dstport 4789",
         "wg0 type wireguard", "macvlan0 link dummy0 type macvlan", "ipvlan0 link veth1 type ipvlan")
RULES = """
add table inet own
add chain inet own forward { type filter hook forward priority 0; }
add rule inet own forward ct state established,related accept
add rule inet own forward limit rate 5/second log reject
add chain inet own before { type nat hook prerouting priority -100; }
add rule inet own before fib daddr type local tcp dport 80 dnat ip to 10.9.0.2:8080
add rule inet own before tcp dport 81 redirect to :8080
add chain inet own after { type nat hook postrouting priority 100; }
add rule inet own after oifname bridge0 masquerade
"""


def test_the_kernel_has_what_container_runtimes_load_modules_for(privileged):
    """An app with all capabilities has no files of modules: what guest/initramfs.sh does not
    name is not there."""
    privileged.sh("head -c 1M /dev/zero >/tmp/disk && device=$(losetup --find --show /tmp/disk) && losetup --detach $device")
    privileged.sh("mount -t binfmt_misc none /mnt && umount /mnt")
    links = " && ".join(f"{TOOL}/ip link add {link}" for link in LINKS)
    privileged.sh(f"cat >/tmp/rules <<'END'\n{RULES}END\ncat >/tmp/links <<'END'\n{links} && {TOOL}/ip link set veth0 master bridge0"
                  f" && {TOOL}/ip tuntap add tun0 mode tun && {TOOL}/nft -f /tmp/rules\nEND\nunshare --net sh -e /tmp/links")
    for file, needed in {
            "/proc/filesystems": {"fuse", "overlay", "squashfs", "nfs", "nfs4"},
            # Of iptables as it was before nftables.
            "/proc/net/ip_tables_targets": {"MASQUERADE", "DNAT", "SNAT", "REDIRECT", "MARK", "LOG"},
            "/proc/net/ip_tables_matches": {"conntrack", "addrtype", "comment", "multiport", "mark", "tcp", "udp", "limit", "set",
                                            "statistic", "physdev", "owner"}}.items():
        assert needed <= set(privileged.sh(f"cat {file}").split()), file
    privileged.sh("head -1 /proc/net/ip_vs && ls -d /sys/module/ip_set_hash_ip /sys/module/ip_vs_rr /sys/module/sch_htb"
                  " /sys/module/br_netfilter /sys/module/nft_compat /sys/module/ip6table_nat")


def test_requests_under_way_outlive_the_first_rule_of_nat(clients, built):
    """As dockerd makes them. The answer to this command goes by a connection from before there was
    connection tracking."""
    # One whose way is open: in another test the others' is closed, and the agent leads their
    # connections.
    microvm = clients.run(built[1])
    rules = "add table ip own; add chain ip own post { type nat hook postrouting priority 100; }; add rule ip own post masquerade"
    nft = f"{TOOL}/nft"
    assert microvm.sh(f"{nft} '{rules}' && echo made") == "made"
    assert "masquerade" in microvm.sh(f"{nft} list table ip own")
    microvm.sh(f"{nft} delete table ip own")
    microvm.terminate(wait=False)


def test_what_clones_are_called(run_one):
    """The kernel draws its boot id when it is first read; the other names are the image's."""
    one, other = run_one(), run_one()
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    first = one.sh(boot_id)
    assert first != other.sh(boot_id)
    one.suspend()
    assert one.sh(boot_id) == first
    for command in ("hostname", "cat /etc/machine-id 2>/dev/null; true"):
        assert one.sh(command) == other.sh(command)
    for microvm in (one, other):
        microvm.terminate(wait=False)


def test_the_report_names_secrets_and_does_not_tell_them(clients, built, run_one):
    command = [HEARTH, "image", "report", NAME, "--data-dir", clients.server.data_dir, "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["imageArn"], report["imageVersion"]) == (built[0], "1.0")
    assert 0 < report["memorySnapshotSizeInBytes"] < report["memorySizeInBytes"] == 2 << 30
    assert [(process["pid"], process["user"], process["command"]) for process in report["processes"][:1]] == [(1, "root", "perl")]
    assert {socket["address"]: socket["pid"] for socket in report["listening"]}["127.0.0.1:8080"] == 1
    assert report["outboundConnections"] == [{"address": f"{PUBLIC}:{HOLD_PORT}", "pid": 1}]
    assert report["search"]["leftOut"] == [], report["search"]

    found = [(finding["kind"], place) for finding in report["findings"] for place in finding["places"]]
    kinds = {kind for kind, _ in found}
    assert kinds == {"PRIVATE_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN"}, report["findings"]
    assert ("PRIVATE_KEY", {"type": "FILE", "path": "/etc/app/key.pem"}) in found
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        assert (name, {"type": "ENVIRONMENT", "name": name}) in found
    assert ("GITHUB_TOKEN", {"type": "MEMORY", "pid": 1, "command": "perl", "region": "[heap]"}) in found

    microvm = run_one()
    token = microvm.request("/token").text
    key = microvm.sh("sed -n 2p /etc/app/key.pem")
    assert len(token) == 40 and len(key) == 64
    print(done.stdout)
    said = done.stdout + subprocess.run(command[:-1], capture_output=True, text=True).stdout
    said += "\n".join(clients.log_lines(f"/aws/lambda-microvms/{NAME}", stream="]snapshot-"))
    assert "GITHUB_TOKEN" in said and "found      github token: memory of process 1" in said
    assert "[hearth] the snapshot holds: private key, in file /etc/app/key.pem" in said
    for secret in (token, key, "AKIAQ3EGTESTNOTREAL7", "9fKx2bVq7LmZp4RtYw8NcJd6HsGa3UeTo5XiQ1Bn"):
        assert secret not in said
    microvm.terminate(wait=False)


def report_url(clients, arn: str, version: str) -> str:
    return f"{clients.server.api_url}/hearth/2026-11-22/microvm-images/{urllib.parse.quote(arn, safe='')}/versions/{version}/report"


def test_the_report_is_guarded_like_the_version(clients, built):
    def get(version: str, sign: bool = True) -> tuple[int, dict]:
        request = AWSRequest("GET", report_url(clients, built[0], version))
        if sign:
            credentials = Credentials(clients.env["AWS_ACCESS_KEY_ID"], clients.env["AWS_SECRET_ACCESS_KEY"])
            SigV4Auth(credentials, "lambda", REGION).add_auth(request)
        try:
            answer = urllib.request.urlopen(urllib.request.Request(request.url, headers=dict(request.headers)), timeout=30)
        except urllib.error.HTTPError as error:
            answer = error
        return answer.status, json.load(answer)
    status, report = get("1.0")
    assert (status, report["imageArn"]) == (200, built[0])
    assert get("1.0", sign=False)[0] == 403
    status, error = get("9.0")
    assert status == 404 and "9.0" in error["message"], error


def test_an_operator_may_refuse_what_is_found(another_server, small):
    server = another_server({"build": {"refuse_findings": True}})
    other, files = Clients(server), images.snapshot()
    files["Dockerfile"] = files["Dockerfile"].replace(b"debian:trixie-slim", b"small:1")
    other.s3.put_object(Bucket="code", Key="refused.zip", Body=zipped(files))
    arn = other.create_image("refused", "s3://code/refused.zip", **images.OUTSIDE)
    state, reason = other.wait_built(arn)
    assert state == "CREATE_FAILED"
    assert reason == (
        "The snapshot holds what its clones should not share: private key, AWS access key id, AWS secret access key, GitHub "
        "token. The build log says where; this service refuses such images.")
    assert "[hearth] the snapshot holds: private key, in file /etc/app/key.pem" in other.log_lines("/aws/lambda-microvms/refused")
