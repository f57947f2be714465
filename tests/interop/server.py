"""A `lakesync serve` of its own: a fresh directory, a free port, plain HTTP, and the `lakesync sql` command beside it.

Invariant: it ends with the process that started it, and an answer that is no success raises with the server's text.
"""

import json
import pathlib
import queue
import re
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from decimal import Decimal

GATEWAY = "public"
START_SECONDS = 60
ANSWER_SECONDS = 60


class Server:
    def __init__(self, binary: str, data_dir: str):
        self.binary = str(pathlib.Path(binary).resolve())
        self.data_dir = data_dir
        self.process = subprocess.Popen(
            [self.binary, "serve", "--dir", data_dir, "--listen", "127.0.0.1:0"],
            stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.log = []
        self.address = queue.Queue()
        threading.Thread(target=self._read_log, daemon=True).start()
        try:
            self.base = self.address.get(timeout=START_SECONDS)
        except queue.Empty:
            self.base = None
        if self.base is None:
            self.process.kill()
            raise RuntimeError("the server did not start:\n" + "".join(self.log))

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line)
            found = re.search(r"listening on (http://\S+)", line)
            if found:
                self.address.put(found.group(1))
        self.address.put(None)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def call(self, path: str, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"})
        # No proxy of the environment can reach this machine's own loopback.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=ANSWER_SECONDS) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{path}: {error.code} {error.read().decode(errors='replace')}") from error

    def post_schema(self, definition: dict):
        return self.call(f"/v1/admin/schema/{GATEWAY}", definition)

    def push(self, client: str, deltas: list):
        return self.call(f"/v1/sync/{GATEWAY}/push", {"clientId": client, "deltas": deltas, "lastSeenHlc": "0"})

    def pull_all(self, limit: int) -> list:
        """Every delta, in pages of `limit`."""
        deltas, since = [], 0
        while True:
            page = self.call(f"/v1/sync/{GATEWAY}/pull?since={since}&clientId=reader&limit={limit}")
            assert len(page["deltas"]) <= limit and (not page["hasMore"] or int(page["serverHlc"]) > since), page
            deltas, since = deltas + page["deltas"], int(page["serverHlc"])
            if not page["hasMore"]:
                return deltas

    def flush(self):
        return self.call(f"/v1/admin/flush/{GATEWAY}", {})

    def schema(self, table: str) -> dict:
        tables = self.call(f"/v1/sync/{GATEWAY}/schema")["tables"]
        return next(found for found in tables if found["table"] == table)

    def sql(self, statement: str) -> list:
        """The rows of a statement, through the shell command and the server that holds the directory."""
        done = subprocess.run(
            [self.binary, "sql", "--dir", self.data_dir, "-c", statement, "--format", "ndjson"],
            capture_output=True, text=True, timeout=ANSWER_SECONDS)
        if done.returncode != 0:
            raise RuntimeError(f"{statement}: {done.stderr}")
        # Not splitlines(): it also splits at U+2028, which JSON strings may hold as it is.
        return [json.loads(line, parse_float=Decimal) for line in done.stdout.split("\n") if line]
