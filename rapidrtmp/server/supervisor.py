"""
``--workers N``: a process that owns the ports and looks after N workers, and touches no media.

Each worker has a listening socket of its own for every port (``SO_REUSEPORT``), so that the kernel spreads connections
over them. The sockets belong to this process: what waits at one whose worker dies waits for the next. A worker that
ends is started again, at once at first, later and later if it ends again and again; one that hangs is killed. ``HUP``
replaces one after the other: the next one ends when the new one lets clients in. Nothing is remembered here.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from rapidrtmp import __version__
from rapidrtmp.cluster.pieces import memory_folder
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.server.listeners import LISTEN_BACKLOG
from rapidrtmp.server.tls_endpoint import BEHIND_PROXY, TlsEndpoint, is_tls
from rapidrtmp.server.worker import LEAVING, READY, Worker
from rapidrtmp.settings.model import ServerSettings
from rapidrtmp.settings.spec import parse_spec

__all__ = ["FOLDER_PREFIX", "SupervisorService", "listen_for_workers", "worker_command"]

FOLDER_PREFIX = "rapidrtmp-"
#: A worker that says nothing for so long hangs.
SILENT_S = 10.0
#: The first start reads what there is, and recovers streams.
STARTING_S = 60.0
#: Pauses before a worker that has ended is started again; one that has run for long begins with the first again.
PAUSES_S = (0.1, 1.0, 2.0, 5.0, 10.0, 30.0)
LONG_S = 60.0
#: How much longer than its settings say a worker may take to stop.
PATIENCE_S = 5.0


#: Ends this process with a status: ``twistd`` has none for a service that cannot continue.
end_process: Callable[[int], object] = os._exit


def listen_for_workers(description: str, count: int) -> list[socket.socket]:
    """
    Open an endpoint as so many listening sockets, of which the kernel gives each connection to one.

    :param description: ``tcp:``, ``tcp6:``, ``ssl:`` or ``unix:``, a Twisted endpoint string; a UNIX socket is shared.
    :raises ConfigurationError: it is another, or cannot be opened.
    """
    bare = description.removeprefix(BEHIND_PROXY)
    spec = parse_spec(bare)
    opened: list[socket.socket] = []
    try:
        if spec.name == "unix":
            opened.append(_listen_at_path(spec.arguments[0], int(spec.options.get("mode", "666"), 8)))
            return opened * count
        if is_tls(description):
            endpoint = TlsEndpoint.parse(description)
            port, interface, family = endpoint.port, endpoint.interface, socket.AF_INET
        elif spec.name in ("tcp", "tcp6"):
            port = int(spec.arguments[0] if spec.arguments else spec.options["port"])
            interface = spec.options.get("interface", "")
            family = socket.AF_INET6 if spec.name == "tcp6" else socket.AF_INET
        else:
            raise ConfigurationError("workers listen at tcp:, tcp6:, ssl: and unix: endpoints")
        if ":" in interface:
            family = socket.AF_INET6
        _listen_at_port(family, interface, port, is_alone=True).close()  # another server must not share it unnoticed
        for _ in range(count):
            opened.append(_listen_at_port(family, interface, port))
            port = opened[0].getsockname()[1]
    except (OSError, KeyError, IndexError, ValueError) as error:
        for each in set(opened):
            each.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigurationError(f"cannot listen on {description}: {reason}") from error
    return opened


def _listen_at_port(family: int, interface: str, port: int, *, is_alone: bool = False) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if not is_alone:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    opened.bind((interface, port))
    opened.listen(LISTEN_BACKLOG)
    opened.setblocking(False)  # for all that have it: a worker that finds nothing to accept must not wait
    return opened


def _listen_at_path(path: str, mode: int) -> socket.socket:
    with suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.bind(path)
    os.chmod(path, mode)
    opened.listen(LISTEN_BACKLOG)
    opened.setblocking(False)  # for all that have it: a worker that finds nothing to accept must not wait
    return opened


class _Process(ProcessProtocol):
    """
    One worker, from its start to its end.

    :ivar is_ready: whether it lets clients in.
    :ivar is_leaving: whether it was asked to end.
    :ivar ended: fires when it has.
    """

    def __init__(self, supervisor: SupervisorService, number: int) -> None:
        self._supervisor = supervisor
        self._reactor = supervisor.reactor
        self.number = number
        self.is_ready = self.is_leaving = False
        self.ended: Deferred[None] = Deferred()
        self._silent: IDelayedCall = self._reactor.callLater(STARTING_S, self._hangs)
        self.began_s: float = self._reactor.seconds()

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """It lives."""
        del childFD
        if self._silent.active():
            self._silent.reset(SILENT_S if self.is_ready or READY in data else STARTING_S)
        if READY in data and not self.is_ready:
            self.is_ready = True
            self._supervisor.worker_ready(self)

    def processEnded(self, reason: Failure) -> None:
        """It lives no more."""
        if self._silent.active():
            self._silent.cancel()
        self.ended.callback(None)
        self._supervisor.worker_ended(self, reason)

    def _hangs(self) -> None:
        self._supervisor.log.error("worker {number} hangs, and is killed", number=self.number)
        self.signal("KILL")

    def leave(self) -> None:
        """Have it end in order."""
        self.is_leaving = True
        self.signal("TERM")

    def leave_to_others(self, within_s: float) -> None:
        """Have it end in order, and leave what it has to the others; beyond that time it is killed."""
        self.is_leaving = True
        if self.transport is not None:
            with suppress(OSError):
                self.transport.writeToChild(4, LEAVING)
        killing = self._reactor.callLater(within_s, self.signal, "KILL")
        self.ended.addCallback(lambda _: killing.cancel() if killing.active() else None)

    def signal(self, name: str) -> None:
        """Send it a signal, if it lives."""
        with suppress(ProcessExitedAlready):
            if self.transport is not None:
                self.transport.signalProcess(name)


class SupervisorService(Service):
    """
    See the module.

    :param settings: those of the server: its endpoints, and how long stopping may take.
    :param count: of workers.
    :param command: the command line of the worker of a number, but for what tells it so.
    """

    log = Logger()

    def __init__(
        self, reactor: Any, settings: ServerSettings, count: int, command: Callable[[int], Sequence[str]]
    ) -> None:
        self.reactor = reactor
        self._settings = settings
        self._count = count
        self._command = command
        self._sockets: dict[str, list[socket.socket]] = {}
        self._folder: Path | None = None
        self._lock = -1
        self._workers: dict[int, _Process] = {}
        self._all: set[_Process] = set()
        self._deaths = dict.fromkeys(range(count), 0)
        self._waiting: dict[int, IDelayedCall] = {}
        self._replacing: list[int] = []
        self._is_stopping = self._was_ready = False

    # ── starting ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def privilegedStartService(self) -> None:
        """Open every port while the process still may open low ones."""
        self._open()
        super().privilegedStartService()  # type: ignore[no-untyped-call]

    def _open(self) -> None:
        if self._sockets:
            return
        server = self._settings
        try:
            for door in ("rtmp", "http", "manage"):
                for description in getattr(server, door):
                    self._sockets[f"{door} {description}"] = listen_for_workers(description, self._count)
        except ConfigurationError as error:
            print(f"rapidrtmp: {error}", file=sys.stderr)
            raise SystemExit(1) from error

    def startService(self) -> None:
        """Start the first worker; the others follow when it is ready, for it makes the files that all share."""
        self._open()
        super().startService()  # type: ignore[no-untyped-call]
        self._make_folder()
        self.log.info("RapidRTMP {version}, {count} workers", version=__version__, count=self._count)
        self._say_where("publish to {url}", "rtmp", "rtmp", "/live/KEY?token=TOKEN")
        self._say_where("watch at {url}", "http", "http", "/live/KEY")
        self._start(0)

    def _say_where(self, text: str, door: str, scheme: str, path: str) -> None:
        for description in getattr(self._settings, door):
            address = self._sockets[f"{door} {description}"][0].getsockname()
            if isinstance(address, tuple):
                secure = "s" if is_tls(description) else ""
                host = "localhost" if address[0] in ("0.0.0.0", "::", "127.0.0.1", "::1") else address[0]
                shown = f"[{host}]" if ":" in host else host
                self.log.info(text, url=f"{scheme}{secure}://{shown}:{address[1]}{path}")

    def _make_folder(self) -> None:
        """Make the folder of the workers, and delete those of supervisors that were killed."""
        self._folder = memory_folder(FOLDER_PREFIX)
        for other in self._folder.parent.glob(f"{FOLDER_PREFIX}*"):
            with suppress(OSError):
                descriptor = os.open(other / "lock", os.O_RDWR | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(other, ignore_errors=True)
                finally:
                    os.close(descriptor)
        draft = self._folder / ".lock"
        self._lock = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        draft.rename(self._folder / "lock")
        path = self._folder / "secret"
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32), "ascii")

    def _start(self, number: int) -> None:
        process = self._workers[number] = _Process(self, number)
        self._all.add(process)
        descriptors: dict[int, int | str] = {0: 0, 1: 1, 2: 2, 3: "r", 4: "w"}
        ports: dict[str, int] = {}
        for description, opened in self._sockets.items():
            ports[description] = len(descriptors)
            descriptors[len(descriptors)] = opened[number].fileno()
        worker = Worker(number, str(self._folder), ports)
        command = [*self._command(number), "--worker", worker.render()]
        self.reactor.spawnProcess(process, command[0], command, env=None, childFDs=descriptors)

    # ── what workers say ─────────────────────────────────────────────────────────────────────────────────────────────

    def worker_ready(self, process: _Process) -> None:
        """A worker lets clients in."""
        self._was_ready = True
        self.log.info("worker {number} is ready", number=process.number)
        for number in range(self._count):
            if number not in self._workers and number not in self._waiting and not self._is_stopping:
                self._start(number)
        for other in list(self._all):
            if other.number == process.number and other is not process and not other.is_leaving:
                other.leave_to_others(self._patience_s)
        self._replace_next()

    def worker_ended(self, process: _Process, reason: Failure) -> None:
        """A worker has ended: another takes its place."""
        self._all.discard(process)
        if self._workers.get(process.number) is process:
            del self._workers[process.number]
        if self._is_stopping or process.is_leaving:
            return
        if not self._was_ready:
            self._cannot_start(reason)
            return
        number = process.number
        if self.reactor.seconds() - process.began_s > LONG_S:
            self._deaths[number] = 0
        pause_s = PAUSES_S[min(self._deaths[number], len(PAUSES_S) - 1)]
        self._deaths[number] += 1
        self.log.error(
            "worker {number} has ended ({reason}), another is started in {pause_s:g} s",
            number=number,
            reason=reason.getErrorMessage(),
            pause_s=pause_s,
        )
        self._waiting[number] = self.reactor.callLater(pause_s, self._start_again, number)

    def _cannot_start(self, reason: Failure) -> None:
        """End: the first worker, which the others wait for, has said why it cannot start, and would say so again."""
        self.log.error("the first worker cannot start ({reason}): the server ends", reason=reason.getErrorMessage())
        self.reactor.addSystemEventTrigger("after", "shutdown", end_process, 1)
        self.reactor.stop()

    def _start_again(self, number: int) -> None:
        del self._waiting[number]
        if number not in self._workers:
            self._start(number)

    # ── what signals ask for ─────────────────────────────────────────────────────────────────────────────────────────

    def hang_up(self) -> None:
        """Replace one worker after the other: the new ones read the configuration again."""
        self._replacing = list(range(self._count))
        self._replace_next()

    def _replace_next(self) -> None:
        if self._replacing and not self._is_stopping and not self._waiting:
            if any(not process.is_ready for process in self._workers.values()):
                return  # it says when it is
            number = self._replacing.pop(0)
            self._start(number)  # the one before leaves when this one is ready

    @property
    def _patience_s(self) -> float:
        """How long a worker may take to stop."""
        return self._settings.shutdown_timeout_ms / 1000 + PATIENCE_S

    def reopen_logs(self) -> None:
        """Have every worker open its log file anew."""
        for process in self._all:
            process.signal("USR1")

    def _kill_all(self) -> None:
        for process in list(self._all):
            process.signal("KILL")

    def stopService(self) -> Deferred[None]:
        """End all workers; those that do not end in time are killed."""
        self._is_stopping = True
        super().stopService()  # type: ignore[no-untyped-call]
        for waiting in self._waiting.values():
            waiting.cancel()
        self._waiting.clear()
        for each in self._sockets.values():
            for opened in set(each):
                opened.close()
        leaving = list(self._all)
        for process in leaving:
            process.leave()
        killing = self.reactor.callLater(self._patience_s, self._kill_all)

        def ended(_: object) -> None:
            if killing.active():
                killing.cancel()
            if self._lock >= 0:
                os.close(self._lock)
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self.log.info("stopped")

        return DeferredList([process.ended for process in leaving]).addCallback(ended)


def worker_command(
    options: Mapping[str, str | Sequence[str]], log_file: str | None, number: int, *, demo: bool
) -> list[str]:
    """
    The command line of a worker.

    :param options: of the supervisor's own command line.
    :param log_file: that of the supervisor: each worker has one of its own beside it; ``None`` for standard output.
    :param demo: whether the first one publishes a test picture.
    """
    said = []
    for name, value in options.items():
        if name in ("workers", "worker"):
            continue
        values = [value] if isinstance(value, str) else value
        said += [part for each in values if each for part in (f"--{name}", each)]
    path = None if log_file in (None, "-") else Path(str(log_file))
    own = "-" if path is None else str(path.with_name(f"{path.stem}-worker{number}{path.suffix}"))
    flags = ["--demo"] if demo and number == 0 else []
    return [sys.executable, "-m", "rapidrtmp.server.foreground", f"--logfile={own}", *said, *flags]
