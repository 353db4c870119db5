"""The reactor serves, isolates and gathers as it promises; Twisted's own tests of its kind pass against it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from twisted.internet import defer, endpoints, protocol
from twisted.python import runtime
from twisted.python.runtime import platform
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.support.clock import busy_clock
from tests.slow import slow

if platform.isLinux():
    from rapidrtmp.net import reactor as lean

ROOT = Path(__file__).resolve().parents[2]


class Echo(protocol.Protocol):
    def dataReceived(self, data: bytes) -> None:
        if data == b"raise":
            raise ZeroDivisionError("as asked")
        self.transport.write(data)


class Asker(protocol.Protocol):
    def __init__(self, question: bytes) -> None:
        self.question, self.heard, self.done = question, b"", defer.Deferred()

    def connectionMade(self) -> None:
        self.transport.write(self.question)

    def dataReceived(self, data: bytes) -> None:
        self.heard += data
        if self.heard == self.question:
            self.transport.loseConnection()

    def connectionLost(self, reason: object) -> None:
        self.done.callback(self.heard)


class LeanReactorTests(SynchronousTestCase):
    if not platform.isLinux():
        skip = "epoll is Linux's"

    def setUp(self) -> None:
        self.reactor = lean.LeanReactor()
        self.reactor._handleSignals = lambda: None  # trial's own reactor has them

    def ask(self, *questions: bytes) -> list[bytes]:
        """Ask an echo server all questions at once; what each heard until its connection closed."""
        reactor = self.reactor
        port = []
        askers = [Asker(question) for question in questions]

        def begin() -> None:
            port.append(reactor.listenTCP(0, protocol.Factory.forProtocol(Echo), interface="127.0.0.1"))
            point = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", port[0].getHost().port)
            for asker in askers:
                endpoints.connectProtocol(point, asker)
            gathered = defer.gatherResults([asker.done for asker in askers])
            gathered.addCallback(lambda _: port[0].stopListening()).addCallback(lambda _: reactor.stop())

        reactor.callWhenRunning(begin)
        deadline = reactor.callLater(30, reactor.stop)
        reactor.run(installSignalHandlers=False)
        if deadline.active():
            deadline.cancel()
        return [asker.heard for asker in askers]

    def test_monotonic_clock_for_timers(self) -> None:
        """Its timers are reckoned by a clock that is never set."""
        self.patch(runtime, "seconds", lambda: 1_767_225_600.0)
        self.patch(time, "time", lambda: 1_767_225_600.0)
        waiting = self.reactor.callLater(60, int)
        self.assertApproximates(time.monotonic() + 60, waiting.getTime(), 5)
        self.assertApproximates(60, self.reactor.timeout(), 5)

    def test_handful_accepted_in_a_turn(self) -> None:
        """However many connections wait, a port accepts a handful of them in one turn."""
        self.patch(lean, "monotonic", lambda: 0.0)
        self.reactor = lean.LeanReactor()
        made = self.connect(50)
        for turn in range(1, 4):
            self.reactor.doIteration(0)
            self.assertEqual(turn * lean.ACCEPTS, len(made))
        self.reactor.doIteration(0)
        self.assertEqual(50, len(made))

    def test_more_accepted_after_a_long_turn(self) -> None:
        """After a long turn more connections are accepted in one go, for its length, up to a bound."""
        now = [0.0]
        self.patch(lean, "monotonic", lambda: now[0])
        for turn_s, accepted in ((0.01, lean.ACCEPTS), (0.04, 40), (5.0, lean.MOST_ACCEPTS)):
            self.reactor = lean.LeanReactor()
            made = self.connect(lean.MOST_ACCEPTS + 10)
            now[0] += turn_s
            self.reactor.doIteration(0)
            self.assertEqual(accepted, len(made))

    def connect(self, clients: int) -> list[Echo]:
        """So many clients who wait to be accepted; those that are."""
        made: list[Echo] = []

        class Counting(protocol.Factory):
            def buildProtocol(self, addr: object) -> Echo:
                made.append(Echo())
                return made[-1]

        port = self.reactor.listenTCP(0, Counting(), backlog=1000, interface="127.0.0.1")
        self.addCleanup(port.connectionLost, None)
        for _ in range(clients):
            client = socket.create_connection(("127.0.0.1", port.getHost().port))
            self.addCleanup(client.close)
        return made

    def test_time_of_work_is_measured(self) -> None:
        """What it waits for something to do is not counted as work."""
        now = [0.0]
        self.patch(lean, "monotonic", lambda: now[0])
        self.patch(time, "monotonic", lambda: now[0])
        reactor = lean.LeanReactor()

        class Poller:
            def poll(self, *_: object) -> list[tuple[int, int]]:
                now[0] += 0.3
                return []

        reactor._poller = Poller()
        began = busy_clock(reactor)()
        for _ in range(2):
            now[0] += 0.2
            reactor.doIteration(1)
        self.assertApproximates(0.6, reactor.waited_s, 1e-9)
        self.assertApproximates(0.2, reactor.last_turn_s, 1e-9)
        self.assertApproximates(0.4, busy_clock(reactor)() - began, 1e-9)

    def test_serves_many_connections_at_once(self) -> None:
        """Many connections at once all get their answer."""
        questions = [b"%d" % number * 1000 for number in range(1, 40)]
        self.assertEqual(questions, self.ask(*questions))

    def test_isolates_protocols_that_raise(self) -> None:
        """A protocol that raises loses its own connection, with a logged failure; the others continue."""
        self.assertEqual([b"one", b"", b"two"], self.ask(b"one", b"raise", b"two"))
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_serves_while_busy(self) -> None:
        """A busy reactor gathers, and serves all the same."""
        self.reactor._is_busy = True
        self.reactor._counted_since_s = float("inf")  # and stays busy
        self.assertEqual([b"one", b"two"], self.ask(b"one", b"two"))

    def test_knows_when_it_is_busy(self) -> None:
        """Busy is decided by what was served lately, and ends."""
        reactor = self.reactor
        reactor._count(1, 0.0)
        for now_s in (0.05, 0.2):
            reactor._count(200, now_s)
        self.assertTrue(reactor._is_busy)
        for now_s in (0.31, 0.5):
            reactor._count(3, now_s)
        self.assertFalse(reactor._is_busy)


class TwistedsOwnTests(SynchronousTestCase):
    if not platform.isLinux():
        skip = "epoll is Linux's"

    @slow
    def test_twisted_tcp_tests_pass(self) -> None:
        """Twisted's tests of TCP pass with this as the reactor."""
        command = [sys.executable, "-m", "twisted.trial", "--reactor=rapidrtmp", f"--temp-directory={self.mktemp()}"]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", str(ROOT), *filter(None, sys.path)])}
        tests = ["twisted.test.test_tcp", "twisted.test.test_protocols"]
        done = subprocess.run([*command, *tests], env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(0, done.returncode, done.stdout[-3000:] + done.stderr[-3000:])
