"""The process that decodes, as the server sees it: started, fed no faster than it reads, and started anew."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.interfaces import IPushProducer, IReactorTime
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.decoding.base import Answer
from rapidrtmp.decoding.wire import MessageReader, WireError, read_result
from rapidrtmp.interfaces import SpawnProcess

__all__ = ["Job", "WorkerProcess"]

#: How long one that has to end may take for what it still holds.
PATIENCE_S = 4.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
#: One that lived so long had begun well: the next pause is short again.
GOOD_LIFE_S = 30.0
#: Of what a process says, so many lines a minute are logged, and so much of each.
MOST_LINES = 30
MOST_LINE_BYTES = 500
MINUTE_S = 60.0
#: Variables that begin so are settings of the server, and may hold secrets.
_OURS = "RAPIDRTMP_"


@dataclass(frozen=True)
class Job:
    """
    What a process is to do.

    :ivar path: the class of the sink, ``module:name``.
    :ivar options: for its constructor.
    :ivar every_ms: how far apart pictures are, at least; 0 for all that come.
    """

    path: str
    options: Mapping[str, object]
    every_ms: int

    def arguments(self) -> list[str]:
        """The command line."""
        told = json.dumps({"options": dict(self.options), "everyMs": self.every_ms})
        return [sys.executable, "-m", "rapidrtmp.decoding.worker", self.path, told]


def _environment() -> dict[str, str]:
    """Ours without settings; modules are looked for where we look for them."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
    return {**inherited, "PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


class WorkerProcess:
    """
    A process that decodes, for as long as its stream lives: when one dies, another begins, after a pause.

    :param take: is given each answer.
    :param begun: is called whenever a new process begins, which knows nothing.
    """

    def __init__(
        self,
        job: Job,
        spawn: SpawnProcess,
        clock: IReactorTime,
        log: Logger,
        take: Callable[[Answer], None],
        begun: Callable[[], None],
    ) -> None:
        self._job = job
        self._spawn = spawn
        self._clock = clock
        self._log = log
        self._take = take
        self._begun = begun
        self._pause_s = FIRST_PAUSE_S
        self._started_s = 0.0
        self._is_finishing = False
        self._waiting: Deferred[None] | None = None  # of who wants to write
        self._ended: Deferred[None] = Deferred()
        self._lines = _BoundedLog(clock, log)
        self._child: _Child | None = None
        self._start()

    def ready(self) -> Deferred[None]:
        """Fires when there is a process that takes something, or will never be. One caller at a time."""
        is_over = self._child is None and self._is_finishing
        if is_over or (self._child is not None and not self._child.is_full):
            return succeed(None)
        self._waiting = Deferred()
        return self._waiting

    def write(self, data: bytes) -> None:
        """Give it something; only when it is :meth:`ready`."""
        if self._child is not None:
            self._child.write(data)

    def finish(self, sending: Deferred[None]) -> Deferred[None]:
        """End it when all is sent, or does not get there in time; fires when it is gone."""
        self._is_finishing = True
        killing = self._clock.callLater(PATIENCE_S, self._kill)
        sending.addBoth(lambda _: self._close())
        if self._child is None:
            self._leave()
        return self._ended.addBoth(lambda _: killing.cancel() if killing.active() else None)

    def _start(self) -> None:
        child = _Child(self)
        arguments = self._job.arguments()
        try:
            self._spawn(child, arguments[0], arguments, _environment(), childFDs={0: "w", 1: "r", 2: "r"})
        except OSError as error:
            self.ended(str(error))
            return
        self._started_s = self._clock.seconds()
        self._child = child
        self._begun()
        self.has_room()

    def _close(self) -> None:
        if self._child is not None:
            self._child.close_input()

    def _kill(self) -> None:
        if self._child is not None:
            self._log.warn("what decodes did not end in {seconds:g} s and is killed", seconds=PATIENCE_S)
            self._child.kill()

    def _leave(self) -> None:
        """Let all that waits continue."""
        if not self._ended.called:
            self._ended.callback(None)
        self.has_room()

    # ── from the child ───────────────────────────────────────────────────────────────────────────────────────────────

    def has_room(self) -> None:
        """Learn that it takes something again."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.callback(None)

    def answered(self, result: Answer) -> None:
        """Learn what it answers."""
        self._take(result)

    def said(self, line: str) -> None:
        """Learn what it says."""
        self._lines.add(line)

    def ended(self, reason: str) -> None:
        """Learn that it is gone."""
        self._child = None
        if self._is_finishing:
            self._leave()
            return
        if self._clock.seconds() - self._started_s > GOOD_LIFE_S:
            self._pause_s = FIRST_PAUSE_S
        self._log.warn(
            "what decodes ended: {reason}; the next one begins in {pause:g} s", reason=reason, pause=self._pause_s
        )
        self._clock.callLater(self._pause_s, self._start_unless_finishing)
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)

    def _start_unless_finishing(self) -> None:
        if not self._is_finishing:
            self._start()


class _BoundedLog:
    """What a process says, in bounds: one that raises at each picture must fill no disk."""

    def __init__(self, clock: IReactorTime, log: Logger) -> None:
        self._clock = clock
        self._log = log
        self._began_s = -MINUTE_S
        self._count = 0

    def add(self, line: str) -> None:
        now_s = self._clock.seconds()
        if now_s - self._began_s >= MINUTE_S:
            self._began_s, self._count = now_s, 0
        self._count += 1
        if self._count <= MOST_LINES:
            self._log.info("{line}", line=line)
        elif self._count == MOST_LINES + 1:
            self._log.warn("it says more than {most} lines a minute; no more is logged", most=MOST_LINES)


@implementer(IPushProducer)
class _Child(ProcessProtocol):
    """
    One process.

    :ivar is_full: whether more waits for it than should.
    """

    def __init__(self, owner: WorkerProcess) -> None:
        self._owner = owner
        self._reader = MessageReader()
        self._line = bytearray()
        self._has_input = True
        self.is_full = False

    # ── by the owner ─────────────────────────────────────────────────────────────────────────────────────────────────

    def write(self, data: bytes) -> None:
        if self._has_input:
            self._process.writeToChild(0, data)

    def close_input(self) -> None:
        if self._has_input:
            self._process.unregisterProducer()  # a pipe whose producer is paused never closes
            self._process.closeStdin()

    def kill(self) -> None:
        try:
            self._process.signalProcess("KILL")
        except ProcessExitedAlready:
            pass

    @property
    def _process(self) -> Any:
        """Twisted's, which takes a producer for the standard input besides what IProcessTransport says."""
        return self.transport

    # ── by the transport ─────────────────────────────────────────────────────────────────────────────────────────────

    def connectionMade(self) -> None:
        """Have the pipe say when it is full."""
        self._process.registerProducer(self, True)

    def pauseProducing(self) -> None:
        self.is_full = True

    def resumeProducing(self) -> None:
        self.is_full = False
        self._owner.has_room()

    def stopProducing(self) -> None:
        """The pipe is closed: the process says the rest by ending."""

    def inConnectionLost(self) -> None:
        """Learn that it reads no more: it is about to end."""
        self._has_input = False
        self.is_full = True

    def outReceived(self, data: bytes) -> None:
        """Read answers."""
        try:
            for kind, body in self._reader.feed(data):
                self._owner.answered(read_result(kind, body))
        except WireError as error:
            self._owner.said(str(error))
            self.kill()

    def errReceived(self, data: bytes) -> None:
        """Read lines of text."""
        self._line += data
        *lines, rest = self._line.split(b"\n")
        for line in lines:
            self._say(line)
        self._line = rest[:MOST_LINE_BYTES]

    def _say(self, line: bytes | bytearray) -> None:
        text = line[:MOST_LINE_BYTES].decode("utf-8", "replace").strip()
        if text:
            self._owner.said(text)

    def processEnded(self, reason: Failure) -> None:
        """Pass on why."""
        self._say(self._line)
        self._owner.ended("it has exited" if reason.check(ProcessDone) else reason.getErrorMessage())
