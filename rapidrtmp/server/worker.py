"""One of several processes of a server, as its supervisor has started it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError

__all__ = ["ALIVE", "LEAVING", "READY", "STATUS_S", "Supervision", "Worker"]

#: What a worker says to its supervisor: that it lives, so often, and that it lets clients in.
ALIVE, READY = b".", b"R"
STATUS_S = 1.0
#: What the supervisor says: to stop, as others continue what this worker leaves.
LEAVING = b"x"


@dataclass(frozen=True)
class Worker:
    """
    What a worker is given.

    :ivar number: from 0 on.
    :ivar folder: of all workers, in memory, with their secret in it.
    :ivar ports: the descriptors of the sockets that it listens at, by door and endpoint string: ``rtmp tcp:1935``.
    :ivar status: the descriptor that it says how it is to; ``orders`` the one that the supervisor speaks by.
    """

    number: int
    folder: str
    ports: Mapping[str, int] = field(default_factory=dict)
    status: int = 3
    orders: int = 4

    def render(self) -> str:
        """As the option ``--worker``."""
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Worker:
        """Read that. :raises ConfigurationError: it makes no sense."""
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise ConfigurationError("--worker is for a supervisor to use: see --workers") from error

    def ports_of(self, door: str) -> Mapping[str, int]:
        """Those of one door, by endpoint string."""
        return {each.removeprefix(f"{door} "): port for each, port in self.ports.items() if each.startswith(f"{door} ")}

    def read_secret(self) -> str:
        """What the workers know each other by."""
        return Path(self.folder, "secret").read_text("ascii")


@implementer(IReadDescriptor)
class Supervision:
    """
    The link of a worker to its supervisor: says every second that it lives, and stops it when the supervisor is gone.

    :param replaced: called when this worker ends, and others continue what it leaves.
    """

    _log = Logger()

    def __init__(self, reactor: Any, worker: Worker, replaced: Callable[[], None]) -> None:
        self._reactor = reactor
        self._worker = worker
        self._replaced = replaced
        self._saying = LoopingCall(self._say, ALIVE)
        self._saying.clock = reactor

    def start(self) -> None:
        """Begin."""
        os.set_blocking(self._worker.orders, False)
        os.set_blocking(self._worker.status, False)
        self._reactor.addReader(self)
        self._saying.start(STATUS_S)

    def stop(self) -> None:
        """Say nothing any more."""
        self._reactor.removeReader(self)
        if self._saying.running:
            self._saying.stop()

    def ready(self) -> None:
        """Say that clients are let in."""
        self._say(READY)

    def _say(self, what: bytes) -> None:
        try:
            os.write(self._worker.status, what)
        except BlockingIOError:  # the supervisor hangs
            pass
        except OSError:
            self._orphaned()

    def _orphaned(self) -> None:
        self.stop()
        self._log.error("the supervisor is gone, and so this worker stops")
        self._reactor.callLater(0, self._reactor.stop)

    def fileno(self) -> int:
        """The descriptor that is read."""
        return self._worker.orders

    def doRead(self) -> None:
        """Hear the supervisor, or that it is gone."""
        try:
            said = os.read(self._worker.orders, 64)
        except BlockingIOError:
            return
        if not said:
            self._orphaned()
        elif LEAVING in said:
            self._replaced()
            self._reactor.callLater(0, self._reactor.stop)

    def connectionLost(self, reason: Failure) -> None:
        """The descriptor is of no use any more."""
        del reason

    def logPrefix(self) -> str:
        """What Twisted's own log lines call it."""
        return "supervision"
