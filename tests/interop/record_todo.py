"""Two people, two terminals, one gateway: the session that the README shows, played by the real programs.

Invariant: each scene waits for what the screens must show, so a picture exists only when the two have converged.
"""

import pathlib
import sys
import tempfile

from film import Film
from server import Server
from terminal import Terminal, wait_for

COLUMNS, ROWS = 48, 12
PICTURE_BYTES_MAX = 200_000
# How long a reader needs: for a key, for a change to be noticed, for a sentence.
KEY, GLANCE, SENTENCE = 0.16, 1.2, 2.6


class Session:
    def __init__(self, ana: Terminal, bo: Terminal):
        self.ana, self.bo, self.both = ana, bo, [ana, bo]
        self.film = Film(["ana", "bo"], COLUMNS, ROWS)
        self.caption = ""

    def shot(self, seconds: float):
        self.film.shot([self.ana.screen, self.bo.screen], self.caption, seconds)

    def scene(self, caption: str):
        self.caption = caption
        self.shot(SENTENCE)

    def until(self, seconds: float, *wanted):
        """Waits until each (terminal, text) is on its screen, then shows it."""
        wait_for(self.both, lambda: all(terminal.shows(text) for terminal, text in wanted),
                 f"{[text for _, text in wanted]} for `{self.caption}`")
        self.shot(seconds)

    def type(self, who: Terminal, key: str, prompt: str, text: str, before: str = ""):
        """Opens a prompt, and types into it so that the keys can be followed."""
        who.press(key)
        self.until(KEY, (who, f"{prompt}: {before}▏"))
        typed = before
        for letter in text:
            typed = typed[:-1] if letter == "\x7f" else typed + letter
            who.press(letter)
            self.until(KEY, (who, f"{prompt}: {typed}▏"))
        who.press("\r")

    def play(self):
        ana, bo = self.ana, self.bo
        self.scene("Two todo lists, each on its own SQLite database")
        self.caption = "What Ana writes is in her own file at once, and in Bo's a moment later"
        self.type(ana, "a", "new", "Buy milk")
        self.until(GLANCE, (ana, "[ ] Buy milk"), (bo, "[ ] Buy milk"))
        self.type(bo, "a", "new", "Fix bike")
        self.until(GLANCE, (ana, "[ ] Fix bike"), (bo, "[ ] Fix bike"), (ana, "● live"), (bo, "● live"))

        ana.press("o")
        self.caption = "Ana goes offline, and works on"
        self.until(SENTENCE, (ana, "○ offline"))
        ana.press("k")
        self.until(GLANCE, (ana, "› [ ] Buy milk"))
        self.type(ana, "e", "rename", "\x7f\x7f\x7f\x7foat milk", before="Buy milk")
        self.until(GLANCE, (ana, "[ ] Buy oat milk"), (ana, "1 to send"))
        self.type(ana, "a", "new", "Call Eve")
        self.until(GLANCE, (ana, "[ ] Call Eve"), (ana, "2 to send"))

        self.caption = "Bo meanwhile ticks the same task, and moves another up"
        bo.press("k")
        self.until(GLANCE, (bo, "› [ ] Buy milk"))
        bo.press(" ")
        self.until(GLANCE, (bo, "[x] Buy milk"), (bo, "● live"))
        bo.press("J")
        self.until(SENTENCE, (bo, "● live"), (bo, "› [x] Buy milk"))

        ana.press("o")
        self.caption = "Ana is back: her title and Bo's tick are two columns, so both stay"
        self.until(GLANCE, (ana, "[x] Buy oat milk"), (bo, "[x] Buy oat milk"), (bo, "[ ] Call Eve"),
                   (ana, "● live"), (bo, "● live"))
        wait_for(self.both, lambda: titles(ana) == titles(bo), "the same list on both")
        self.shot(2 * SENTENCE)


def titles(terminal: Terminal) -> list:
    """The list without the mark of the chosen line."""
    lines = [line[3:].rstrip() for line in terminal.screen.display]
    return [line for line in lines if line.startswith("[")]


def main():
    binary, todo, picture = sys.argv[1:4]
    check = sys.argv[4:] == ["--check"]
    with tempfile.TemporaryDirectory() as folder, Server(binary, f"{folder}/data") as server:
        def open_list(who: str) -> Terminal:
            command = [todo, f"{folder}/{who}.db", "--client-id", who, "--url", server.base]
            return Terminal(command, COLUMNS, ROWS)

        with open_list("ana") as ana:
            wait_for([ana], lambda: ana.shows("● live"), "ana's list")
            with open_list("bo") as bo:
                session = Session(ana, bo)
                wait_for([ana, bo], lambda: bo.shows("● live"), "bo's list")
                session.play()
                svg = session.film.svg()
                for terminal in (ana, bo):
                    terminal.press("q")
                    assert terminal.process.wait(timeout=30) == 0, "a list did not end as it should"
    size = len(svg.encode())
    assert size <= PICTURE_BYTES_MAX, f"the picture has {size} bytes"
    if not check:
        pathlib.Path(picture).write_text(svg)
    print(f"{len(session.film.frames)} frames, {size} bytes, {len(titles(session.ana))} tasks on both sides")


if __name__ == "__main__":
    main()
