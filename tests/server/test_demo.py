import sys
from typing import Any
from unittest import mock

from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import ITokenIssuer, TokenTerms
from rapidrtmp.names import StreamName
from rapidrtmp.server import demo
from rapidrtmp.server.demo import DemoPublisher, make_demo
from rapidrtmp.server.listeners import Address
from rapidrtmp.support import ffmpeg
from rapidrtmp.support.ffmpeg import find_ffmpeg


class Transport:
    """A process, as far as it can be signalled."""

    def __init__(self) -> None:
        self.signals: list[str] = []
        self.exited = False

    def signalProcess(self, signal: str) -> None:
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(signal)


class ProcessReactor(Clock):
    """A clock that also remembers which processes it was to start."""

    def __init__(self) -> None:
        super().__init__()
        self.spawned: list[tuple[Any, str, list[str]]] = []

    def spawnProcess(self, protocol: Any, executable: str, arguments: list[str], env: object) -> Transport:
        transport = Transport()
        self.spawned.append((protocol, executable, arguments))
        protocol.makeConnection(transport)
        return transport


class DemoTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.tokens = 0
        self.publisher = DemoPublisher(self.reactor, self.make_url, Logger(), find=lambda: "/opt/ffmpeg")

    def make_url(self) -> str:
        self.tokens += 1
        return f"rtmp://127.0.0.1:1935/live/demo?token=hidden{self.tokens}"

    def start(self) -> Any:
        self.publisher.startService()
        self.reactor.advance(0)
        return self.reactor.spawned[-1][0]

    def end(self, child: Any) -> None:
        child.transport.exited = True
        child.processEnded(Failure(ProcessTerminated(1)))

    def stop(self) -> Deferred[None]:
        stopping = self.publisher.stopService()
        assert stopping is not None
        return stopping

    def test_demo_publishes_picture_and_tone(self) -> None:
        """It starts FFmpeg in real time with picture and tone, towards the URL."""
        self.start()
        _, executable, arguments = self.reactor.spawned[0]
        self.assertEqual("/opt/ffmpeg", executable)
        self.assertEqual(
            ["/opt/ffmpeg", "rtmp://127.0.0.1:1935/live/demo?token=hidden1"], [arguments[0], arguments[-1]]
        )
        self.assertEqual(2, arguments.count("-re"))
        self.assertIn("libx264", arguments)
        self.assertIn("aac", arguments)

    def test_starts_when_the_server_listens(self) -> None:
        """Nothing is started before the reactor's next turn, when the other services have started too."""
        self.publisher.startService()
        self.assertEqual([], self.reactor.spawned)

    def test_restarts_with_backoff(self) -> None:
        """A dead FFmpeg is started again, after pauses that double up to a limit, each time with a fresh token."""
        child = self.start()
        for pause_s in (1, 2, 4, 8, 16, 30, 30):
            count = len(self.reactor.spawned)
            self.end(child)
            self.reactor.advance(pause_s - 0.5)
            self.assertEqual(count, len(self.reactor.spawned))
            self.reactor.advance(0.5)
            self.assertEqual(count + 1, len(self.reactor.spawned))
            child = self.reactor.spawned[-1][0]
        self.assertEqual(len(self.reactor.spawned), len({arguments[-1] for _, _, arguments in self.reactor.spawned}))

    def test_good_run_shortens_the_pause(self) -> None:
        """After a long run the next pause is short again."""
        child = self.start()
        self.end(child)
        self.reactor.advance(1)
        self.reactor.advance(60)
        self.end(self.reactor.spawned[-1][0])
        self.reactor.advance(1)
        self.assertEqual(3, len(self.reactor.spawned))

    def test_stop_terminates_the_process(self) -> None:
        """Stopping terminates FFmpeg and waits for its end; nothing is started after it, and no timer left."""
        child = self.start()
        stopping = self.stop()
        self.assertEqual(["TERM"], child.transport.signals)
        self.assertNoResult(stopping)
        child.transport.exited = True
        child.processEnded(Failure(ProcessDone(0)))
        self.successResultOf(stopping)
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_stubborn_process_is_killed(self) -> None:
        """One that does not end when it is asked to is killed."""
        child = self.start()
        stopping = self.stop()
        self.reactor.advance(demo.KILL_AFTER_S)
        self.assertEqual(["TERM", "KILL"], child.transport.signals)
        self.end(child)
        self.successResultOf(stopping)

    def test_stops_while_it_ends(self) -> None:
        """One that ended, unnoticed as yet, when it is stopped makes no trouble."""
        child = self.start()
        child.transport.exited = True
        stopping = self.stop()
        self.end(child)
        self.successResultOf(stopping)

    def test_stops_between_runs(self) -> None:
        """Stopping during a pause, or before the first start, cancels the next start."""
        self.end(self.start())
        self.assertIsNone(self.publisher.stopService())
        self.assertEqual([], self.reactor.getDelayedCalls())

    def test_missing_ffmpeg_is_said(self) -> None:
        """Without FFmpeg it says so, and how to get one, and the server continues."""
        publisher = DemoPublisher(self.reactor, self.make_url, Logger(), find=lambda: None)
        with capturedLogs() as events:
            publisher.startService()
            self.reactor.advance(0)
        self.assertEqual([LogLevel.error], [event["log_level"] for event in events])
        self.assertIn("pip install imageio-ffmpeg", formatEvent(events[0]))
        self.assertIsNone(publisher.stopService())

    def test_token_is_never_logged(self) -> None:
        """What FFmpeg says is logged line by line at debug level, without the URL's secrets."""
        with capturedLogs() as events:
            child = self.start()
            child.errReceived(b"[flv] rtmp://127.0.0.1:1935/live/demo?token=hid")
            child.errReceived(b"den1: refused\r\nbad token=hidden1\nhalf a line")
            child.errReceived(b"x" * 5000)
            child.errReceived(b"\nafter\n")
            self.end(child)
        said = [formatEvent(event) for event in events]
        self.assertNotIn("hidden", "".join(said))
        debug = [formatEvent(event) for event in events if event["log_level"] is LogLevel.debug]
        self.assertEqual(["ffmpeg: [flv] ***: refused", "ffmpeg: bad ***", "ffmpeg: ", "ffmpeg: after"], debug)


@implementer(ITokenIssuer)
class Issuer:
    """Issues one token again and again."""

    def __init__(self, token: str) -> None:
        self.token = token

    def issue_token(self, stream: StreamName, lifetime_s: int, terms: TokenTerms) -> str:
        return self.token


class MakingTests(SynchronousTestCase):
    def url(self, authenticator: Any, *addresses: Address) -> str:
        """Where a demo publishes."""
        self.patch(ffmpeg.shutil, "which", {"ffmpeg": "/opt/ffmpeg"}.get)
        reactor = ProcessReactor()
        publisher = make_demo(reactor, authenticator, lambda: addresses)
        publisher.startService()
        reactor.advance(0)
        return reactor.spawned[0][2][-1]

    def test_url_with_token_and_port(self) -> None:
        """It publishes where the server listens, with the token it is given; without one where none is needed."""
        plain, encrypted = Address("localhost:1936", False), Address("localhost:1937", True)
        self.assertEqual("rtmp://localhost:1936/live/demo?token=hidden", self.url(Issuer("hidden"), plain))
        self.assertEqual("rtmp://localhost:1936/live/demo", self.url(Issuer(""), encrypted, plain))
        self.assertEqual("rtmps://localhost:1937/live/demo", self.url(Issuer(""), encrypted))

    def test_no_port_means_no_demo(self) -> None:
        """The demo takes a port, not a UNIX socket; where there is none the log says why there is no demo."""
        socket, plain = Address("/run/rtmp", False, is_socket=True), Address("localhost:1936", False)
        self.assertEqual("rtmp://localhost:1936/live/demo", self.url(Issuer(""), socket, plain))
        with capturedLogs() as events:
            self.assertRaises(IndexError, self.url, Issuer(""), socket)
        self.assertIn("UNIX sockets only", events[0]["log_format"])

    def test_no_tokens_means_no_demo(self) -> None:
        """An authenticator that issues no tokens is refused with one line that says what would be right."""
        error = self.assertRaises(ConfigurationError, self.url, object())
        self.assertRegex(str(error), r"\A--demo publishes live/demo[^\n]+: add token or open to it\Z")


class FindTests(SynchronousTestCase):
    def test_ffmpeg_on_path_comes_first(self) -> None:
        """An FFmpeg on the PATH is preferred to the one that imageio-ffmpeg brings."""
        self.patch(ffmpeg.shutil, "which", {"ffmpeg": "/opt/ffmpeg"}.get)
        self.assertEqual("/opt/ffmpeg", find_ffmpeg())

    def test_no_ffmpeg_is_found(self) -> None:
        """Where there is neither, there is none."""
        self.patch(ffmpeg.shutil, "which", {}.get)
        with mock.patch.dict(sys.modules, {"imageio_ffmpeg": None}):
            self.assertIsNone(find_ffmpeg())
