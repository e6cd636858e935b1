"""Who may open a shell, and what a shell's token opens; shells and the microVM's life."""
import pytest
from websockets.exceptions import InvalidStatus

from harness import wait_until
from shells import HTTP_AND_SHELL, MANAGED, Shell, shell_token


def refused(microvm, **arguments) -> tuple[int, str, bytes]:
    """Status, code and body of the answer to a shell that is not opened."""
    with pytest.raises(InvalidStatus) as answer:
        Shell(microvm, **arguments)
    response = answer.value.response
    return response.status_code, response.headers["x-aws-proxy-error"], response.body


def test_a_shell_needs_a_token_for_shells(microvm):
    """With one for HTTP, 8022 is a port of the app like any other."""
    assert refused(microvm, token=microvm.token()) == (502, "APP_CONNECT_FAILED", b"")
    assert refused(microvm, token=microvm.token({"port": 8080})) == (403, "UNAUTHORIZED", b"Access to port denied")
    assert refused(microvm, token="a.b.c.d.e")[:2] == (403, "UNAUTHORIZED")


def test_a_token_for_shells_opens_nothing_else(microvm):
    token = shell_token(microvm)
    plain = microvm.request("/shell", port=8022, token=token)
    assert (plain.status, plain.headers["x-aws-proxy-error"], plain.body) == (502, "APP_CONNECT_FAILED", b"")
    other_port = microvm.request("/", port=8080, token=token)
    assert (other_port.status, other_port.body) == (403, b"Access to port denied")
    assert refused(microvm, token=token, port=8080)[0] == 403
    assert refused(microvm, token=token, path="/else")[0] == 502


@pytest.mark.parametrize("path", ["/", "/shell"])
def test_the_port_need_not_be_named(microvm, path):
    shell = Shell(microvm, path=path, port=None)
    assert shell.run("echo $((6 * 7))") == "42"
    shell.close()


def test_a_token_is_for_one_microvm(microvm, run):
    other = run(ingressNetworkConnectors=HTTP_AND_SHELL)
    assert refused(other, token=shell_token(microvm)) == (403, "UNAUTHORIZED", b"Token authentication failed")


def test_tokens_for_shells_need_the_connector(clients, run):
    def refusal(microvm) -> str:
        with pytest.raises(clients.microvms.exceptions.ValidationException) as error:
            shell_token(microvm)
        return error.value.response["message"]
    needs = "Shell access requires SHELL_INGRESS network connector to be configured on the MicroVM."
    assert refusal(run(wait=False)) == needs
    assert refusal(run(wait=False, ingressNetworkConnectors=[MANAGED + "ALL_INGRESS"])) == needs
    both = [MANAGED + "ALL_INGRESS", MANAGED + "SHELL_INGRESS"]
    assert refusal(run(wait=False, ingressNetworkConnectors=both)) == (
        "ALL_INGRESS cannot be combined with other ingress network connectors; use HTTP_INGRESS and/or SHELL_INGRESS "
        "instead")


def test_http_needs_its_connector(run):
    microvm = run(ingressNetworkConnectors=[MANAGED + "SHELL_INGRESS"])
    answer = microvm.request("/count")
    assert (answer.status, answer.headers["x-aws-proxy-error"], answer.body) == (
        403, "UNAUTHORIZED", b"Access to port denied")
    shell = Shell(microvm)
    assert shell.run("echo $((6 * 7))") == "42"
    shell.close()
    closed = run(ingressNetworkConnectors=[MANAGED + "NO_INGRESS"])
    assert closed.request("/count").status == 403
    assert closed.request("/count", headers={"Host": closed.endpoint}).body == b"Request missing authentication"
    everything = run(ingressNetworkConnectors=[MANAGED + "ALL_INGRESS"])
    assert everything.request("/count").status == 200


def test_a_shell_ends_with_the_life_of_its_microvm(run):
    """A suspend drops it in order; the next one, on a suspended microVM, wakes it, and finds
    nothing of the first."""
    microvm = run(ingressNetworkConnectors=HTTP_AND_SHELL)
    first = Shell(microvm)
    first.type("touch /tmp/kept; sleep 5555\r")
    wait_until(lambda: "sleep" in microvm.sh("cat /proc/[0-9]*/comm", check=False), 20, "the shell is busy")
    microvm.suspend()
    assert first.closed() == (1001, "the MicroVM was suspended or has ended")
    second = Shell(microvm)
    assert microvm.state == "RUNNING"
    assert second.run("ls /tmp") == "kept"
    # A zombie, which the app is not bothered to reap, has no command line.
    running = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
    wait_until(lambda: "5555" not in second.run(running), 20, "the first shell's program has ended")
    assert second.run(running).count("bash") == 1
    microvm.terminate()
    assert second.closed() == (1001, "the MicroVM was suspended or has ended")
    assert refused(microvm, token=first.token) == (502, "MICROVM_CONNECT_FAILED", b"")


def test_what_is_typed_and_printed_keeps_a_microvm_awake(run):
    """A silent shell does not."""
    microvm = run(ingressNetworkConnectors=HTTP_AND_SHELL, idle=4)
    shell = Shell(microvm)
    shell.type("for i in $(seq 16); do echo ti''ck; sleep 0.5; done; echo do''ne\r")
    shell.wait_for("done")
    assert microvm.state == "RUNNING"
    assert shell.closed() == (1001, "the MicroVM was suspended or has ended")
    assert microvm.wait_state("SUSPENDED") == "SUSPENDED"


def test_an_image_without_bash(clients, run):
    """There sh is started; without either there is no shell."""
    microvm = run(ingressNetworkConnectors=HTTP_AND_SHELL)
    microvm.sh("mv /usr/bin/bash /usr/bin/hidden")
    shell = Shell(microvm)
    assert shell.run("echo $0") == "sh"
    shell.close()
    microvm.sh("mv /usr/bin/sh /usr/bin/other", check=False)
    assert refused(microvm) == (502, "APP_CONNECT_FAILED", b"")


def test_long_messages_are_refused(microvm):
    shell = Shell(microvm, max_size=None)
    shell.type(b"x" * ((1 << 20) + 1))
    assert shell.closed() == (1009, "the message is too long or malformed")


def test_commands_and_pipes_are_ours(microvm):
    """What `hearth shell` uses: a program without terminal, its exit status, and the
    end of its input."""
    shell = Shell(microvm, path="/shell?frames=extended&terminal=none&arg=sh&arg=-c&arg=wc%20-c;%20exit%209")
    shell.type(b"x" * 100_000)
    shell.socket.send('{"type":"eof"}')
    assert shell.closed() == (1000, "shell exited")
    assert (shell.printed.strip(), shell.texts) == (b"100000", [{"type": "exit", "status": 9}])
    assert refused(microvm, path="/shell?arg=no-such-program")[:2] == (502, "APP_CONNECT_FAILED")
    assert refused(microvm, path="/shell?terminal=else") == (400, "BAD_REQUEST", b"Bad request")

