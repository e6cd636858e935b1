"""`hearth shell`, on a terminal of its own and on pipes."""
import signal
import subprocess
import termios

import pexpect
import pytest

from harness import HEARTH, wait_until
from shells import HTTP_AND_SHELL

PROMPT = "/srv/probe# "


@pytest.fixture
def terminal(server, microvm):
    """Starts `hearth shell` on a terminal; it is past its first prompt."""
    started = []

    def start(*command: str) -> pexpect.spawn:
        child = pexpect.spawn(str(HEARTH), ["shell", microvm.id, *command], env=server.env(), timeout=60,
                              dimensions=(31, 101), encoding="utf-8")
        # pexpect would wait between keys.
        child.delaybeforesend = None
        started.append(child)
        if not command:
            child.expect_exact(PROMPT)
        return child
    yield start
    for child in started:
        child.close(force=True)


def ended(child: pexpect.spawn) -> int:
    """The exit status; a signal counts from 128."""
    child.expect(pexpect.EOF)
    child.wait()
    return child.exitstatus if child.signalstatus is None else 128 + child.signalstatus


def local_flags(child: pexpect.spawn) -> int:
    return termios.tcgetattr(child.child_fd)[3]


def raw(child: pexpect.spawn) -> bool:
    return not local_flags(child) & (termios.ECHO | termios.ICANON | termios.ISIG)


def on_pipes(server, microvm, *command: str, typed: bytes = b"") -> subprocess.CompletedProcess:
    return subprocess.run([HEARTH, "shell", microvm.id, *(["--", *command] if command else [])], env=server.env(),
                          input=typed, capture_output=True, timeout=60)


def test_keys_and_the_exit_status(terminal):
    child = terminal()
    assert raw(child)
    child.send("echo $((6 * 7)) $TERM\r")
    child.expect_exact("42 xterm")
    child.expect_exact(PROMPT)
    # What the job says, it says when the terminal is its own.
    child.send("sh -c 'echo rea\"\"dy; exec sleep 1000'\r")
    child.expect_exact("ready\r\n")
    child.send("\x03")
    child.expect_exact("^C")
    child.expect_exact(PROMPT)
    child.send("exit 7\r")
    assert ended(child) == 7


def test_the_window(terminal):
    child = terminal()
    child.send("stty size\r")
    child.expect_exact("31 101")
    child.expect_exact(PROMPT)
    child.setwinsize(43, 132)

    def told() -> bool:
        child.send("stty size\r")
        return child.expect([r"(\d+ \d+)\r\n"]) == 0 and child.match[1] == "43 132"
    wait_until(told, 20, "the new size has arrived")
    child.send("exit\r")
    assert ended(child) == 0


def test_the_terminal_is_restored(server, microvm, terminal):
    """On the end of the shell, on a signal, and when the microVM goes."""
    command = f"{HEARTH} shell {microvm.id}; echo status $?; stty -a | grep -c ' icanon.*' ; stty -a"
    child = pexpect.spawn("/bin/sh", ["-c", command], env=server.env(), timeout=60, encoding="utf-8")
    child.expect_exact(PROMPT)
    assert raw(child)
    child.send("exit 3\r")
    child.expect_exact("status 3")
    child.expect(" icanon")
    child.expect(" echo")
    child.close()

    for number, status in ((signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        child = terminal()
        before = local_flags(child)
        assert raw(child)
        child.kill(number)
        assert ended(child) == status
        after = termios.tcgetattr(child.child_fd)[3] if child.child_fd >= 0 else None
        assert after is None or after & termios.ECHO and after & termios.ICANON, (before, after)


def test_a_command_on_a_terminal(terminal):
    child = terminal("--", "sh", "-c", "tty && exit 5")
    child.expect("/dev/pts/[0-9]+")
    assert ended(child) == 5


def test_programs_that_draw_the_screen(terminal):
    """What an editor does: it takes the keys as they are, another screen, and puts all back."""
    child = terminal()
    draw = r"printf qq(\e[?1049h\e[2J\e[31;1Hbottom); sysread STDIN, $k, 1; printf qq(\e[?1049lkey %vd\n), $k"
    child.send(f"saved=$(stty -g); stty raw -echo; perl -e '$| = 1; {draw}'; stty $saved\r")
    child.expect_exact("\x1b[?1049h\x1b[2J\x1b[31;1Hbottom")
    child.send("\x03")
    child.expect_exact("\x1b[?1049lkey 3\n")
    child.expect_exact(PROMPT)
    child.send("exit\r")
    assert ended(child) == 0


def test_a_script_on_a_pipe(server, microvm):
    done = on_pipes(server, microvm, typed=b"cd /\npwd\necho oops >&2\nexit 4\n")
    assert (done.returncode, done.stdout, done.stderr) == (4, b"/\noops\n", b"")


def test_a_command_on_pipes(server, microvm):
    """Bytes pass unchanged in both directions at once, more of them than any buffer holds."""
    data = bytes(range(256)) * 20_000
    done = on_pipes(server, microvm, "cat", typed=data)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == data
    assert on_pipes(server, microvm, "sh", "-c", "kill -9 $$").returncode == 137
    assert on_pipes(server, microvm, "printf", "%s|", "a b", "c'd", "&é").stdout == "a b|c'd|&é|".encode()


def test_what_goes_wrong_is_one_sentence(server, microvm, run):
    missing = on_pipes(server, microvm, "no-such-program")
    assert (missing.returncode, missing.stdout) == (1, b"")
    assert missing.stderr.decode() == (
        'hearth: the microVM could not start "no-such-program": its image has no such program, or it cannot be executed; '
        "the server's log says which\n")
    closed = on_pipes(server, run(wait=False))
    assert closed.returncode == 1
    assert closed.stderr.decode() == (
        "hearth: Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM "
        "(ValidationException)\n")


def test_the_end_of_the_microvm_is_said(server, clients, image, terminal):
    microvm = clients.run(image, ingressNetworkConnectors=HTTP_AND_SHELL)
    process = subprocess.Popen([HEARTH, "shell", microvm.id, "--", "sh", "-c", "echo ready; sleep 1000"],
                               env=server.env(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    microvm.terminate()
    assert process.wait(30) == 1
    assert process.stderr.read() == b"hearth: the shell was cut off: the MicroVM was suspended or has ended\n"


def test_run_can_let_shells_in(server, clients, image):
    launched = subprocess.run([HEARTH, "run", "probe", "--ingress", "shell", "--wait"], env=server.env(),
                              capture_output=True, text=True, timeout=60)
    assert launched.returncode == 0, launched
    identifier = launched.stdout.strip()
    done = subprocess.run([HEARTH, "shell", identifier, "--", "echo", "in"], env=server.env(), capture_output=True,
                          text=True, timeout=60)
    clients.microvms.terminate_microvm(microvmIdentifier=identifier)
    assert (done.returncode, done.stdout) == (0, "in\n")
