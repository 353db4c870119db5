import signal
from collections.abc import Callable
from typing import Any

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.server import signals
from rapidrtmp.server.signals import Signals


class Reactor:
    """Stands for the reactor, as far as signals concern it."""

    def __init__(self, handlers: dict[int, Any]) -> None:
        self.handlers = handlers
        self.stops: list[str] = []
        self.triggers: dict[tuple[str, str], Callable[[], object]] = {}
        self.turn: list[Callable[[], object]] = []

    def addSystemEventTrigger(self, phase: str, event: str, act: Callable[..., object], *arguments: object) -> None:
        self.triggers[phase, event] = lambda: act(*arguments)

    def callFromThread(self, act: Callable[..., object], *arguments: object) -> None:
        self.turn.append(lambda: act(*arguments))

    def start(self) -> None:
        self.handlers[signal.SIGTERM] = self.sigTerm
        self.triggers["after", "startup"]()
        self.work()

    def work(self) -> None:
        """One turn of its loop."""
        turn, self.turn = self.turn, []
        for act in turn:
            act()

    def sigTerm(self, number: int, frame: object = None) -> None:
        self.stops.append("sigTerm")
        self.callFromThread(self.stop)

    def sigInt(self, number: int, frame: object = None) -> None:
        self.stops.append("sigInt")
        self.callFromThread(self.stop)

    def stop(self) -> None:
        self.stops.append("stop")
        self.triggers["before", "shutdown"]()


class SignalsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.handlers: dict[int, Any] = {}
        self.patch(signals.signal, "signal", self.handlers.__setitem__)
        self.reactor = Reactor(self.handlers)
        self.now_s = 100.0
        self.ends: list[int] = []
        self.patch(signals.os, "write", lambda descriptor, data: None)
        self.log_file: bool | OSError = False
        self.signals = Signals(self.reactor, self.reopen, seconds=lambda: self.now_s, end_now=self.ends.append)
        self.signals.install()

    def reopen(self) -> bool:
        if isinstance(self.log_file, OSError):
            raise self.log_file
        return self.log_file

    def receive(self, *names: str) -> list[str]:
        """What is logged when signals have come, seconds apart, and the reactor has had its turns."""
        with capturedLogs() as events:
            for name in names:
                number = signal.Signals[name]
                self.handlers[number](number, None)
                self.now_s += 2
                self.reactor.work()
                self.reactor.work()
        return [event["log_format"].format(**event) for event in events]

    def test_stop_requests_stop_the_reactor(self) -> None:
        """TERM, INT and QUIT stop the reactor, TERM and INT by its own handlers, which set the exit status."""
        for name, stops in (("SIGTERM", ["sigTerm", "stop"]), ("SIGINT", ["sigInt", "stop"]), ("SIGQUIT", ["stop"])):
            self.setUp()
            self.reactor.start()
            self.receive(name)
            self.assertEqual((stops, []), (self.reactor.stops, self.ends))

    def test_stop_before_start(self) -> None:
        """A request to stop that comes before the reactor runs stops it as soon as it does."""
        self.handlers[signal.SIGTERM](signal.SIGTERM, None)
        self.assertEqual([], self.reactor.stops)
        self.reactor.start()
        self.assertEqual(["sigTerm"], self.reactor.stops)

    def test_second_request_is_one_line(self) -> None:
        """While the server stops a second request is answered with a line, and stops nothing twice."""
        for second in ("SIGTERM", "SIGINT", "SIGQUIT"):
            self.setUp()
            self.reactor.start()
            self.assertEqual([f"received {second}, already stopping"], self.receive("SIGTERM", second))
            self.assertEqual(["sigTerm", "stop"], self.reactor.stops)
            self.assertEqual([], self.ends)

    def test_stopped_by_another(self) -> None:
        """A request that comes while something else has stopped the reactor is answered with a line as well."""
        self.reactor.start()
        self.reactor.stop()
        self.assertEqual(["received SIGTERM, already stopping"], self.receive("SIGTERM"))

    def test_third_request_cuts_short(self) -> None:
        """The third request, or the second by QUIT, ends the process at once, whatever the reactor does."""
        for names in (("SIGTERM", "SIGINT", "SIGTERM"), ("SIGQUIT", "SIGQUIT")):
            self.setUp()
            for name in names[:-1]:
                self.receive(name)
            self.assertEqual([], self.ends)
            self.handlers[signal.Signals[names[-1]]](signal.Signals[names[-1]], None)
            self.assertEqual([1], self.ends)

    def test_requests_at_once(self) -> None:
        """Many requests within a second, from a terminal and from what wraps the server, are one."""
        self.reactor.start()
        for name in ("SIGINT", "SIGTERM", "SIGINT", "SIGQUIT", "SIGQUIT"):
            self.handlers[signal.Signals[name]](signal.Signals[name], None)
            self.now_s += 0.1
        self.reactor.work()
        self.assertEqual((["sigInt"], []), (self.reactor.stops, self.ends))

    def test_hang_up_reloads_each_time(self) -> None:
        """HUP reloads the configuration, as often as it comes, once there is something that can."""
        self.assertEqual(["received SIGHUP, still starting"], self.receive("SIGHUP"))
        reloads: list[int] = []
        self.signals.hang_up = lambda: reloads.append(1)
        self.assertEqual(["received SIGHUP, reloading the configuration"] * 2, self.receive("SIGHUP", "SIGHUP"))
        self.assertEqual(2, len(reloads))
        self.assertEqual(([], []), (self.reactor.stops, self.ends))

    def test_usr_signals_reopen_the_log(self) -> None:
        """USR1 and USR2 reopen the log file; where there is none, or it cannot be opened, the log says that."""
        for name in ("SIGUSR1", "SIGUSR2"):
            self.log_file = True
            self.assertEqual([f"received {name}, reopened the log"], self.receive(name))
            self.log_file = False
            self.assertEqual([f"received {name}, there is no log file to reopen"], self.receive(name))
            self.log_file = PermissionError(13, "Permission denied")
            self.assertIn("Permission denied", self.receive(name)[0])

    def test_before_the_import_is_done(self) -> None:
        """While the server is imported HUP does nothing, and INT ends the process without a traceback."""
        self.handlers.clear()
        signals.prepare_signals()
        self.assertEqual({signal.SIGHUP: signal.SIG_IGN, signal.SIGINT: signal.SIG_DFL}, self.handlers)

    def test_other_thread_installs_nothing(self) -> None:
        """A thread that is not the main one cannot install them, and the process keeps its own."""
        self.handlers.clear()
        self.patch(signals, "_in_main_thread", lambda: False)
        Signals(self.reactor, self.reopen).install()
        signals.prepare_signals()
        self.assertEqual({}, self.handlers)
