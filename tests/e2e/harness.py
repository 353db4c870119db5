"""
What the end-to-end tests stand on: the real server as a child process, a real encoder publishing to it, plain HTTP.

Nothing here sleeps for luck: whatever must happen is looked for until it has, with a deadline far beyond what it takes.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from twisted.trial.unittest import SkipTest, SynchronousTestCase

__all__ = [
    "SERVE",
    "TWIST",
    "TWISTD",
    "Answer",
    "EndToEndTest",
    "Publisher",
    "Server",
    "Token",
    "eventually",
    "fetch",
    "free_port",
    "new_folder",
    "server_environment",
]

T = TypeVar("T")

CHECKOUT = Path(__file__).resolve().parents[2]
#: The ways to start it in the foreground: as documented, as in a checkout, by our own command.
TWISTD = (sys.executable, str(Path(sys.executable).with_name("twistd")), "-n", "rapidrtmp")
TWIST = (sys.executable, "-m", "twisted", "--log-format=text", "rapidrtmp")
SERVE = (sys.executable, "-m", "rapidrtmp", "serve")
DEADLINE_S = 60.0
ANSWER_S = 30.0
STOP_S = 15.0
POLL_S = 0.03
_PUBLISH_LINE = re.compile(r"publish to rtmp://[^:/]+:(\d+)/")
_WATCH_LINE = re.compile(r"watch at http://[^:/]+:(\d+)/")


def eventually(what: str, probe: Callable[[], T | None], deadline_s: float = DEADLINE_S) -> T:
    """
    What ``probe`` returns as soon as that is something.

    :param what: what is waited for, for the message.
    :raises AssertionError: it still returned ``None`` or ``False`` when the deadline was over.
    """
    until = time.monotonic() + deadline_s
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"waited {deadline_s:.0f} s for {what}")
        time.sleep(POLL_S)


def free_port() -> int:
    """A port that was free a moment ago: for programs that cannot be asked which one they took."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def new_folder(name: str) -> Path:
    """A new folder in the one the tests run in, which trial keeps until its next run."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=Path.cwd()))


# ── HTTP ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Answer:
    """An HTTP response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def fetch(url: str, *, method: str = "GET", body: str | None = None, **headers: str) -> Answer:
    """One request on a connection of its own, redirects not followed; ``_`` in header names stands for ``-``."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S)
    try:
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body=body, headers=sent)
        response = connection.getresponse()
        received = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, received, response.read())
    finally:
        connection.close()


# ── the server ───────────────────────────────────────────────────────────────────────────────────────────────────────


class Token(NamedTuple):
    """What the API hands out for one stream."""

    publish_url: str
    token: str


@functools.cache
def server_environment() -> dict[str, str]:
    """The environment of the server: no settings but what a test gives; the checkout on the path if not installed."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TMPDIR") if name in os.environ}
    with tempfile.TemporaryDirectory() as elsewhere:
        found = subprocess.run([sys.executable, "-c", "import rapidrtmp"], cwd=elsewhere, env=kept, capture_output=True)
    return kept if found.returncode == 0 else {**kept, "PYTHONPATH": str(CHECKOUT)}


class Server:
    """
    One server on loopback, in a folder of its own, until it is stopped.

    :param folder: its working directory: objects go to ``store``, the log to ``server-1.log``, that of the next one
        there to ``server-2.log``.
    :param settings: the TOML file it is started with.
    :param program: the command line before the server's own options.
    :param ports: for RTMP and for HTTP; 0 for any.
    :param storage: a spec.
    :param log_name: the file in the folder that it logs to, if it does; or else it logs to standard output.
    :param meanwhile: called with it while it starts.
    :ivar rtmp_port: where it takes RTMP, as its log says.
    :ivar root: its HTTP address, without a slash at the end, as its log says.
    :ivar tokens: every secret it has handed out.
    """

    def __init__(
        self,
        folder: Path,
        settings: str = "",
        *,
        program: Sequence[str] = TWISTD,
        ports: tuple[int, int] = (0, 0),
        storage: str = "local:store",
        log_name: str = "",
        meanwhile: Callable[[Server], object] = lambda server: None,
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.store = folder / "store"
        self.tokens: list[str] = []
        self._log_path = folder / f"server-{len(list(folder.glob('server-*.log'))) + 1}.log"
        (folder / "config.toml").write_text(settings)
        with self._log_path.open("wb") as log:
            self._process = subprocess.Popen(
                [*program, *self._options(ports), "--storage", storage],
                cwd=folder,
                env=server_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._log_path = folder / log_name if log_name else self._log_path
        try:
            meanwhile(self)
            self.rtmp_port = int(self._said(_PUBLISH_LINE))
            self.root = f"http://127.0.0.1:{self._said(_WATCH_LINE)}"
            eventually("the server to be ready", lambda: self.get("/ready").status == 200)
        except BaseException:
            self.kill()
            raise

    @staticmethod
    def _options(ports: tuple[int, int]) -> list[str]:
        rtmp, http = (f"tcp:{port}:interface=127.0.0.1" for port in ports)
        return ["--config", "config.toml", "--rtmp", rtmp, "--http", http]

    def _said(self, line: re.Pattern[str]) -> str:
        def look() -> str | None:
            found = line.search(self.log)
            if found is None and self._process.poll() is not None:
                raise AssertionError(f"the server ended with status {self._process.returncode}:\n{self.log}")
            return found[1] if found else None

        return eventually(f"the log to say {line.pattern!r}", look)

    @property
    def log(self) -> str:
        """All it has logged."""
        return self._log_path.read_text("utf-8", "replace") if self._log_path.exists() else ""

    @property
    def has_ended(self) -> bool:
        """Whether it is gone."""
        return self._process.poll() is not None

    def get(self, path: str, **headers: str) -> Answer:
        """Fetch a path of it."""
        return fetch(self.root + path, **headers)

    def issue_token(self, key: str, app: str = "live") -> Token:
        """Ask its API for a token; the URL leads to this very server."""
        body = json.dumps({"streamKey": key, "app": app})
        answer = fetch(f"{self.root}/api/v1/publish", method="POST", body=body, Content_Type="application/json")
        if answer.status != 200:
            raise AssertionError(f"no token: {answer.status} {answer.text}")
        token = answer.json()["token"]
        self.tokens.append(token)
        return Token(f"rtmp://127.0.0.1:{self.rtmp_port}/{app}/{key}?token={token}", token)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    @property
    def pid(self) -> int:
        """The id of its process."""
        return self._process.pid

    def handles(self, number: signal.Signals) -> bool:
        """Whether it ignores or catches a signal, as the system knows."""
        masks = re.findall(r"^Sig(?:Ign|Cgt):\s*(\w+)", Path(f"/proc/{self._process.pid}/status").read_text(), re.M)
        return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> float:
        """
        Ask it to end, as a service manager does, and wait until it has.

        :param number: the signal that asks it.
        :returns: how many seconds that took.
        :raises AssertionError: it takes longer than a service manager would wait, or ends by itself or in another way.
        """
        asked_s = time.monotonic()
        self._process.send_signal(number)
        try:
            status = self._process.wait(STOP_S)
            if status not in (
                0,
                -signal.SIGTERM,
                -signal.SIGINT,
            ):  # twistd cleans up, then dies by the signal it was sent
                raise AssertionError(f"the server ended with status {status}:\n{self.log}")
            return time.monotonic() - asked_s
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"the server did not end within {STOP_S:.0f} s:\n{self.log}") from error

    def kill(self) -> None:
        """End it at once, if it has not ended."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def complaints(self) -> list[str]:
        """What a log must never hold: tracebacks, and any token; without the token in the complaint."""
        found = [f"the log holds {sign!r}" for sign in ("Traceback", "Unhandled", "#critical") if sign in self.log]
        return found + [f"the log holds token {at}" for at, token in enumerate(self.tokens) if token in self.log]


# ── the publisher ────────────────────────────────────────────────────────────────────────────────────────────────────


class Publisher:
    """
    FFmpeg, publishing a clip in real time, packet by packet as it is.

    :param ffmpeg: the program.
    :param options: more input options.
    """

    def __init__(self, ffmpeg: str, clip: Path, url: str, options: Sequence[str] = ()) -> None:
        command = [ffmpeg, "-hide_banner", "-nostdin", "-loglevel", "info", "-nostats", "-re", *options]
        command += ["-i", str(clip), "-map", "0", "-c", "copy", "-f", "flv", url]
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self._errors
        )

    @property
    def said(self) -> str:
        """What FFmpeg has printed so far."""
        return os.pread(self._errors.fileno(), 1 << 20, 0).decode("utf-8", "replace")

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._process.poll() is not None

    def wait(self) -> int:
        """Wait for the end of the clip, or of the connection; the exit status."""
        return self._process.wait(DEADLINE_S)

    def kill(self) -> None:
        """End it without a farewell, as a power cut would."""
        self._process.kill()
        self._process.wait()


# ── tests ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class EndToEndTest(SynchronousTestCase):
    """A test with servers: where it fails their logs are printed, where it passes they are held to be clean."""

    def __init__(self, methodName: str = "runTest") -> None:
        super().__init__(methodName)
        self.servers: list[Server] = []

    def run(self, result: Any) -> None:
        """Run the test, watched; it is not wrapped before, because trial knows tests by their functions."""
        name = self._testMethodName
        setattr(self, name, functools.partial(self._run_watched, getattr(self, name)))
        super().run(result)

    def start_server(self, settings: str = "", *, folder: Path | None = None, **options: Any) -> Server:
        """
        A server that is gone after the test, and whose log then holds neither a traceback nor a token.

        :param options: as those of :class:`Server`.
        """
        server = Server(folder or new_folder("server"), settings, **options)
        self.servers.append(server)
        self.addCleanup(server.kill)
        return server

    def start_again(self, server: Server, program: Sequence[str] = TWISTD) -> Server:
        """A server in the place of one that has ended: its folder, its settings, its ports."""
        ports = (server.rtmp_port, urlsplit(server.root).port or 0)
        again = Server(server.folder, server.settings, program=program, ports=ports)
        again.tokens += server.tokens
        self.servers.append(again)
        self.addCleanup(again.kill)
        return again

    def publish(self, ffmpeg: str, clip: Path, url: str, options: Sequence[str] = ()) -> Publisher:
        """A publisher that is gone after the test."""
        publisher = Publisher(ffmpeg, clip, url, options)
        self.addCleanup(publisher.kill)
        return publisher

    def _run_watched(self, method: Callable[[], None]) -> None:
        try:
            method()
            for server in self.servers:
                self.assertEqual([], server.complaints())
        except SkipTest:
            raise
        except BaseException:
            for log in self.logs():
                print(f"\n── log of the server ──\n{log}", file=sys.stderr)
            raise

    def logs(self) -> list[str]:
        """What the servers of the test have logged."""
        return [server.log for server in self.servers]
