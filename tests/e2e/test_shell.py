"""Shells: a terminal in the app's container, over a WebSocket."""
import asyncio
import hashlib
import json

import pytest

import frames
import tunnels
from harness import wait_until
from shells import Shell, shell_token


@pytest.fixture
def shell(microvm):
    shell = Shell(microvm)
    yield shell
    shell.close()


def processes(microvm, pattern: str) -> list[str]:
    """Command lines in the guest's container, of processes whose command line matches."""
    listed = microvm.sh("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done", check=False)
    return [line for line in listed.splitlines() if pattern in line and "/proc/" not in line]


def in_foreground(microvm, process: int) -> bool:
    """Whether a process of the guest's container runs, and its group has its terminal
    (proc_pid_stat(5))."""
    _, _, state, _, group, _, _, foreground, *_ = microvm.sh(f"cat /proc/{process}/stat").split()
    return state != "T" and group == foreground


def test_a_shell_is_root_in_the_apps_container(microvm, shell):
    assert len(shell.session) == 36
    assert shell.run("id -u") == "0"
    assert shell.run("echo $TERM") == "xterm"
    assert shell.run("echo $0") == "bash"
    assert shell.run("echo $PROBE_ENV:$PROBE_VERSION_ENV") == "from the image:from the version"
    assert shell.run("pwd") == "/srv/probe"
    assert shell.run("echo ~") == "/root"
    assert shell.run("tty").startswith("/dev/pts/")
    assert shell.run("grep CapEff /proc/self/status").split()[1] == "00000000a80425fb"
    for namespace in ("mnt", "pid", "net", "uts", "ipc"):
        assert shell.run(f"readlink /proc/self/ns/{namespace}") == microvm.sh(f"readlink /proc/1/ns/{namespace}")
    assert shell.run("hostname") == microvm.sh("hostname")


def test_the_size_of_the_window_is_0_until_it_is_told(shell):
    assert shell.run("stty size") == "0 0"
    shell.resize(132, 43)
    assert shell.run("stty size") == "43 132"
    # It sleeps a second at a time: perl does not notice a signal that comes right
    # before it falls asleep.
    shell.type("perl -e '$SIG{WINCH} = sub { print qq(changed\\n); exit }; $| = 1; print qq(rea), qq(dy\\n); sleep 1 while 1'\r")
    shell.wait_for("ready")
    shell.resize(80, 24)
    shell.wait_for("changed")
    assert shell.run("stty size") == "24 80"


def test_job_control(microvm, shell):
    shell.type("sleep 1000 &\r")
    process = int(shell.wait_for(r"\[1\] (\d+)")[1])
    shell.type("fg\r")
    shell.wait_for("sleep 1000\r\n")
    # bash says so before it gives the terminal away; a key that comes first is its own.
    wait_until(lambda: in_foreground(microvm, process), 20, "the job has the terminal")
    shell.type("\x1a")
    shell.wait_for(r"\[1\]\+  Stopped +sleep 1000")
    shell.type("bg; jobs\r")
    shell.wait_for(r"\[1\]\+  Running +sleep 1000 &")
    shell.type("fg\r")
    shell.wait_for("sleep 1000\r\n")
    wait_until(lambda: in_foreground(microvm, process), 20, "the job has the terminal again")
    shell.type("\x03")
    assert shell.run("jobs") == ""
    assert shell.run("sleep 1000 & kill %1; wait %1 2>/dev/null; echo $?").endswith("143")


def test_text_is_typed_too(shell):
    shell.socket.send("echo te''xt\r")
    shell.wait_for("text\r\n")
    shell.socket.send('{"type":"other"}\r')
    shell.wait_for("command not found")


def test_colours(shell):
    assert "\x1b[" in shell.run("ls --color /")


def test_several_shells_at_once(microvm):
    shells = [Shell(microvm) for _ in range(4)]
    for number, shell in enumerate(shells):
        shell.run(f"own={number}")
    assert [shell.run("echo $own") for shell in shells] == ["0", "1", "2", "3"]
    assert len({shell.run("tty") for shell in shells}) == 4
    assert len({shell.session for shell in shells}) == 4
    for shell in shells:
        shell.close()


def test_the_end_of_a_shell(microvm):
    shell = Shell(microvm)
    shell.type("sleep 2222 & echo la''st; exit 3\r")
    assert shell.closed() == (1000, "shell exited")
    assert b"last\r\n" in shell.printed
    assert shell.texts == []
    wait_until(lambda: not processes(microvm, "sleep 2222"), 10, "the shell's job has ended")


def test_nothing_is_left_when_the_connection_is_cut(microvm):
    shell = Shell(microvm)
    shell.type("(trap '' TERM; sleep 3333) & sh -c 'sleep 3334; true' & sleep 3335 | cat\r")
    wait_until(lambda: len(processes(microvm, "sleep 333")) >= 3, 20, "the jobs run")
    # Who asks for it, survives: nohup, and what makes itself a session of its own.
    other = Shell(microvm)
    other.type("nohup sleep 4444 >/dev/null 2>&1 & setsid sleep 4445 >/dev/null 2>&1 &\r")
    wait_until(lambda: len(processes(microvm, "sleep 444")) == 2, 20, "the others run")
    before = len(processes(microvm, "bash"))
    for one in (shell, other):
        one.cut()
    wait_until(lambda: not processes(microvm, "sleep 333"), 20, "the jobs have ended")
    wait_until(lambda: len(processes(microvm, "bash")) == before - 2, 20, "the shells have ended")
    assert len(processes(microvm, "sleep 444")) == 2
    microvm.sh("pkill -f 'sleep 444' || kill $(grep -l 'sleep.444' /proc/[0-9]*/cmdline | cut -d/ -f3)", check=False)


def test_much_output_arrives_whole_and_in_order(microvm):
    """50 MB through a terminal, far more than the buffers on the way hold."""
    shell = Shell(microvm)
    shell.type("stty -opost; perl -e 'for (0..799999) { printf qq(%062d\\n), $_ } '; echo do''ne\r")
    shell.wait_for("0{62}\n")
    digest, expected, received = hashlib.sha256(shell.printed), hashlib.sha256(), len(shell.printed)
    size = 799_999 * 63
    while received < size:
        shell.printed = b""
        shell.receive()
        piece = shell.printed[:size - received]
        digest.update(piece)
        received += len(piece)
    for number in range(1, 800_000):
        expected.update(b"%062d\n" % number)
    assert digest.digest() == expected.digest()
    shell.close()


def test_endless_output_is_stopped(shell):
    shell.type("yes\r")
    shell.wait_for("y\r\ny\r\n" * 1000)
    shell.type("\x03")
    assert shell.run("echo st''ill here", timeout=120) == "still here"


def test_much_input_arrives_whole(microvm):
    """More than any buffer on the way holds, to a program that begins to read late."""
    shell = Shell(microvm)
    shell.type("stty raw -echo; echo rea''dy; sleep 2; head -c 2000000 | sha256sum; stty sane\r")
    shell.wait_for("ready")
    data = bytes(range(33, 127)) * 22000
    for start in range(0, 2_000_000, 50_000):
        shell.type(data[start:min(start + 50_000, 2_000_000)])
    shell.wait_for(hashlib.sha256(data[:2_000_000]).hexdigest(), timeout=120)
    shell.close()


async def over_http2(microvm, work):
    """Gives the work a shell on a stream of HTTP/2 (RFC 8441)."""
    tunnel = await tunnels.http2(microvm, shell_token(microvm), tunnels.Handshake("/shell"))
    try:
        async with asyncio.timeout(60):
            return await work(tunnel)
    finally:
        await tunnel.close()


async def until(tunnel, received: bytearray, text: bytes) -> None:
    while text not in received:
        received += await tunnel.receive()


def test_a_shell_over_http2(microvm):
    async def work(tunnel):
        received = bytearray()
        resize = json.dumps({"type": "resize", "cols": 132, "rows": 43}).encode()
        await tunnel.send(frames.frame(frames.TEXT, resize))
        await tunnel.send(frames.frame(frames.BINARY, b"stty size; sh -c 'echo rea\"\"dy; exec sleep 1000'\r"))
        await until(tunnel, received, b"ready")
        await tunnel.send(frames.frame(frames.BINARY, b"\x03"))
        await until(tunnel, received, b"^C")
        await tunnel.send(frames.frame(frames.PING, b"ping"))
        await tunnel.send(frames.frame(frames.BINARY, b"seq 100000 | sha256sum; exit 3\r"))
        while data := await tunnel.receive():
            received += data
        return bytes(received)
    received = asyncio.run(over_http2(microvm, work))
    (kind, first), *rest, last = frames.parse(received, deflate=False)
    assert kind == frames.TEXT and json.loads(first)["type"] == "session_init"
    assert {kind for kind, _ in rest} == {frames.BINARY, frames.PONG}
    printed = b"".join(payload for kind, payload in rest if kind == frames.BINARY)
    assert b"43 132\r\n" in printed
    numbers = "".join(f"{number}\n" for number in range(1, 100_001))
    assert hashlib.sha256(numbers.encode()).hexdigest().encode() in printed
    assert (frames.PONG, b"ping") in rest
    assert last == (frames.CLOSE, 1000) and received.endswith(b"shell exited")


def test_a_stream_that_is_reset_ends_its_shell(microvm):
    async def work(tunnel):
        received = bytearray()
        await tunnel.send(frames.frame(frames.BINARY, b"sleep 5555 & sh -c 'echo rea\"\"dy; exec sleep 5556'\r"))
        await until(tunnel, received, b"ready")
        assert len(processes(microvm, "sleep 555")) == 2
        await tunnel.reset()
        wait_until(lambda: not processes(microvm, "sleep 555"), 20, "the jobs have ended")
    asyncio.run(over_http2(microvm, work))
