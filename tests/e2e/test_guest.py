"""What an app finds inside: a container as Docker makes it, the right time,
randomness of its own."""
import concurrent.futures
import os
import time

import pytest


def test_the_container_is_as_docker_makes_it(shared):
    status = shared.sh("cat /proc/1/status")
    for name in ("CapPrm", "CapEff", "CapBnd"):
        assert f"{name}:\t00000000a80425fb" in status
    assert shared.sh("tr '\\0' ' ' </proc/1/cmdline") == "perl app.pl "
    assert shared.sh("readlink /proc/1/cwd") == "/srv/probe"
    assert shared.sh("id -u") == "0"
    assert shared.sh("ulimit -Sn; ulimit -Hn") == "1024\n1024"
    assert "status 0" not in shared.sh("ulimit -n 2048; echo status $?", check=False)
    assert shared.sh("df -k /dev/shm | tail -n 1 | awk '{print $2}'") == "65536"
    for namespace in ("pid", "mnt", "uts", "ipc"):
        assert shared.sh(f"readlink /proc/1/ns/{namespace}") == shared.sh(f"readlink /proc/self/ns/{namespace}")


def test_the_system_is_as_the_service_has_it(shared):
    """What a guest of the service looks like from inside; /etc/resolv.conf is in
    test_network.py."""
    assert "Umask:\t0022" in shared.sh("cat /proc/1/status")
    assert len(shared.sh("cat /proc/swaps").splitlines()) == 1
    assert shared.sh("hostname; cat /etc/hostname") == "localhost\nlocalhost"
    mounts = {line.split()[1]: line.split()[2:4] for line in shared.sh("cat /proc/mounts").splitlines()}
    for path in ("/proc/sys", "/proc/irq", "/proc/bus", "/sys"):
        assert mounts[path][1].startswith("ro,"), mounts
    assert mounts["/dev/pts"][0] == "devpts" and "cgroup2" not in [kind for kind, _ in mounts.values()]
    assert shared.sh("test -e /dev/fuse; echo $?; readlink /dev/ptmx; perl -e 'open my $t, q(+<), q(/dev/ptmx) or die; print 1'"
                     ) == "1\npts/ptmx\n1"


def test_the_environment(shared, image):
    env = dict(line.split("=", 1) for line in shared.request("/env").text.splitlines())
    assert env["PROBE_ENV"] == "from the image"
    assert env["PROBE_VERSION_ENV"] == "from the version"
    assert env["AWS_LAMBDA_MICROVM_IMAGE_ARN"] == image
    assert env["AWS_LAMBDA_MICROVM_IMAGE_NAME"] == "probe"
    assert env["AWS_LAMBDA_MICROVM_IMAGE_VERSION"] == "1.0"
    assert env["AWS_REGION"] == "us-east-1"


@pytest.mark.parametrize("device", ["b 254 0", "b 8 0", "c 1 1", "c 10 232"])
def test_a_device_node_of_ones_own_opens_nothing(shared, device):
    made = shared.sh(f"rm -f /root/node; mknod /root/node {device} && (head -c 1 /root/node; echo status $?)", check=False)
    assert "status 1" in made or "Operation not permitted" in made, made
    assert "Operation not permitted" in made or "Permission denied" in made, made


def test_the_kernel_is_out_of_reach(shared):
    for command in ("mount -t tmpfs none /mnt", "echo 1 >/proc/sys/kernel/sysrq", "echo b >/proc/sysrq-trigger",
                    "echo x >/proc/sys/kernel/core_pattern", "unshare -m true", "dmesg"):
        answer = shared.sh(f"{command}; echo status $?", check=False)
        assert "status 0" not in answer, f"{command}: {answer}"


def test_the_agent_is_out_of_reach(shared):
    """Nothing listens where the agent does, and no other process is to be seen."""
    names = shared.sh("cat /proc/[0-9]*/comm")
    assert "agent" not in names
    interfaces = shared.sh("tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' '").split()
    assert sorted(interfaces) == ["eth0", "lo"] or len(interfaces) == 2, interfaces
    addresses = shared.sh("awk '{print $2, $4}' /proc/net/tcp")
    listening = {line.split()[0] for line in addresses.splitlines() if line.endswith(" 0A")}
    assert {int(address.split(":")[1], 16) for address in listening} == {8080, 8081}
    # The two ends of the control network, and the same port on the app's own addresses.
    addresses = ("169.254.254.1", "169.254.254.2", "192.168.241.1", "192.168.241.2", "127.0.0.1")
    assert shared.reaches_any(f"{address}:1024" for address in addresses) == {}


def clock_error(microvm) -> float:
    """Seconds between the guest's clock and the host's, as far as the request's own
    duration tells."""
    before = time.time()
    there = float(microvm.request("/time").text)
    after = time.time()
    return max(0.0, before - there, there - after)


def test_the_clock_is_right_after_launch_and_resume(run):
    microvm = run()
    assert clock_error(microvm) < 1
    microvm.suspend()
    suspended = time.time()
    # Long enough for a clock that stood still to be seen.
    while time.time() < suspended + 2.5:
        assert microvm.state == "SUSPENDED"
    assert clock_error(microvm) < 1


def test_clones_have_different_randomness(run):
    microvms = [run(wait=False) for _ in range(3)]
    with concurrent.futures.ThreadPoolExecutor() as pool:
        values = list(pool.map(lambda microvm: microvm.request("/random").text, microvms))
        kernel = list(pool.map(lambda microvm: microvm.sh("cat /proc/sys/kernel/random/uuid"), microvms))
    assert len(set(values)) == len(set(kernel)) == 3


def test_a_resumed_clone_draws_new_randomness(run):
    microvm = run()
    first = microvm.request("/random").text
    microvm.suspend()
    assert microvm.request("/random").text != first


def test_the_root_disk_has_the_size_of_its_class(shared):
    total = int(shared.sh("df -k / | tail -n 1 | awk '{print $2}'"))
    assert 7 << 20 < total <= 8 << 20
    memory = int(shared.sh("awk '/MemTotal/ {print $2}' /proc/meminfo"))
    assert 1800 << 10 < memory <= 2048 << 10
    assert int(shared.sh("nproc")) == min(1, os.cpu_count())
