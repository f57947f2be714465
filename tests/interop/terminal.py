"""A program in a terminal of its own: keys in, the screen out.

Invariant: the screen is what a terminal would show of the program's own bytes; nothing is waited for but that.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time

import pyte

PATIENCE_SECONDS = 30


class Terminal:
    def __init__(self, command: list, columns: int, rows: int):
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.near, far = pty.openpty()
        fcntl.ioctl(far, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        environment = dict(os.environ, TERM="xterm-256color", COLUMNS=str(columns), LINES=str(rows))
        self.process = subprocess.Popen(
            command, stdin=far, stdout=far, stderr=far, start_new_session=True, env=environment)
        os.close(far)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.near)

    def press(self, keys: str):
        os.write(self.near, keys.encode())

    def shows(self, text: str) -> bool:
        return any(text in line for line in self.screen.display)

    def read(self):
        """Takes what the program has written so far."""
        try:
            data = os.read(self.near, 1 << 16)
        except OSError:  # The program has ended.
            data = b""
        self.stream.feed(data)
        return bool(data)


def wait_for(terminals: list, wanted, what: str):
    """Reads from all until `wanted()` holds."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not wanted():
        left = deadline - time.monotonic()
        if left <= 0:
            screens = "\n".join("\n".join(terminal.screen.display) for terminal in terminals)
            raise RuntimeError(f"never came: {what}\n{screens}")
        ready, _, _ = select.select([terminal.near for terminal in terminals], [], [], left)
        for terminal in terminals:
            if terminal.near in ready and not terminal.read():
                raise RuntimeError(f"a program ended before: {what}\n" + "\n".join(terminal.screen.display))
