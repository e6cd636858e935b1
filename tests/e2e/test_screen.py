"""Programs that draw on the whole screen, in a shell: what is asserted is what a user would see."""
import time

import pyte
import pytest

from shells import HTTP_AND_SHELL, Shell


class Emulated(pyte.Screen):
    """pyte's, with a sequence that it does not know: vi asks for the modes of keys (CSI ? 4 m)."""

    def select_graphic_rendition(self, *attributes: int, private: bool = False) -> None:
        if not private:
            super().select_graphic_rendition(*attributes)


class Screen:
    """A terminal emulator with a shell on it."""

    def __init__(self, microvm, columns: int, rows: int):
        self.shell = Shell(microvm)
        self.screen = Emulated(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.shell.resize(columns, rows)
        self.shows(lambda: self.lines[0].endswith("#"), "the prompt")
        # One that does not look like the output of anything.
        self.shell.type("PS1='pro''mpt> '; cd /tmp; clear\r")
        self.prompts()

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display]

    def type(self, text: str) -> None:
        self.shell.type(text)

    def shows(self, predicate, what: str, timeout: float = 60, key: str = "") -> None:
        """Draws what arrives until the screen is as it should be; the key is pressed whenever nothing has
        arrived for a second."""
        deadline = time.monotonic() + timeout
        while True:
            self.stream.feed(self.shell.printed)
            self.shell.printed = b""
            if predicate():
                return
            left = deadline - time.monotonic()
            assert left > 0, f"the screen does not show {what}:\n" + "\n".join(self.screen.display)
            try:
                self.shell.receive(min(left, 1))
            except TimeoutError:
                self.type(key)

    def prompts(self) -> None:
        """The shell waits for a command, at the left of the cursor's line."""
        self.shows(lambda: self.lines[self.screen.cursor.y] == "prompt>", "the prompt")

    def resize(self, columns: int, rows: int) -> None:
        self.screen.resize(rows, columns)
        self.shell.resize(columns, rows)

    def command(self, text: str) -> list[str]:
        """The lines that a command prints, on a screen that was empty before."""
        self.type(f"clear; {text}; echo en''d\r")
        self.shows(lambda: "end" in self.lines, "its output")
        self.prompts()
        return self.lines[:self.lines.index("end")]

    def row(self, beginning: str) -> int:
        """The row that begins so, blanks aside."""
        return next(row for row, line in enumerate(self.lines) if line.lstrip().startswith(beginning))


@pytest.fixture(scope="module")
def microvm(clients, protocols):
    microvm = clients.run(protocols, ingressNetworkConnectors=HTTP_AND_SHELL)
    yield microvm
    microvm.terminate(wait=False)


@pytest.fixture
def screen(microvm):
    screen = Screen(microvm, 90, 28)
    yield screen
    screen.shell.close()


def test_vi(screen):
    screen.type("printf 'one\\nthree\\n' >note; vi note\r")
    screen.shows(lambda: screen.lines[:-1] == ["one", "three", *["~"] * 25] and screen.lines[-1].startswith('"note" 2')
                 and (screen.screen.cursor.x, screen.screen.cursor.y) == (0, 0), "the file, and its name and size below")
    assert (screen.screen.buffer[5][0].fg, screen.screen.buffer[0][0].fg) == ("blue", "default")
    screen.type("otwo, of many words\x1b")
    screen.shows(lambda: screen.lines[:4] == ["one", "two, of many words", "three", "~"], "the new line between the others")

    # A signal that comes just before vim waits in select(2) is one that it notices at a later key.
    redraw = "\x0c"
    screen.resize(132, 43)
    screen.shows(lambda: screen.lines[3:42] == ["~"] * 39, "the larger window, full", key=redraw)
    screen.resize(90, 28)
    screen.shows(lambda: screen.lines[3:27] == ["~"] * 24, "the smaller window, full", key=redraw)

    screen.type("\x1a")
    screen.shows(lambda: any("Stopped" in line and "vi note" in line for line in screen.lines), "that vi is stopped")
    screen.prompts()
    assert screen.command("cat note") == ["one", "three"]
    screen.type("clear; fg\r")
    screen.shows(lambda: screen.lines[:4] == ["one", "two, of many words", "three", "~"], "vi again")
    screen.type(":wq\r")
    screen.prompts()
    assert screen.command("cat note; jobs") == ["one", "two, of many words", "three"]


def test_top(screen):
    screen.type("top -d 1\r")
    screen.shows(lambda: screen.lines[0].startswith("top - ") and any("protocols" in line for line in screen.lines),
                 "the processes")
    assert screen.lines[1].startswith("Tasks:")

    def bar() -> list[bool]:
        """Which columns of the row with the table's heads are drawn in reverse."""
        row = screen.row("PID USER")
        return [screen.screen.buffer[row][column].reverse for column in range(screen.screen.columns)]
    assert bar() == [True] * 90
    head = screen.lines[0]
    screen.shows(lambda: screen.lines[0].startswith("top - ") and screen.lines[0] != head, "another time of day")

    screen.resize(120, 35)
    screen.shows(lambda: bar() == [True] * 120, "the heads in the whole width")
    screen.type("q")
    screen.prompts()
    assert screen.command("echo $?; stty size") == ["0", "35 120"]


def test_colours(screen):
    screen.type("mkdir -p d; touch d/plain; mkdir -p d/directory; clear; ls -1 --color d\r")
    screen.shows(lambda: "plain" in screen.lines, "the files")
    colours = [screen.screen.buffer[screen.row(name)][0] for name in ("directory", "plain")]
    assert [(cell.fg, cell.bold) for cell in colours] == [("blue", True), ("default", False)]
