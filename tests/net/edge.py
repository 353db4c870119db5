"""
The RTMP edge in memory: a factory with everything behind it, and publishers that send bytes and hear the answers.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IAddress, ITCPTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from rapidrtmp.auth.revocation import Revocations
from rapidrtmp.http.addresses import TrustedProxies
from rapidrtmp.interfaces import AppLimits, IAuthenticator, PublishRequest, Verdict
from rapidrtmp.live.fan_out import FanOut
from rapidrtmp.live.leases import StreamLeases
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.net.app_names import AppNames
from rapidrtmp.net.factory import RtmpServerFactory
from rapidrtmp.net.limits import ConnectionLimits
from rapidrtmp.net.services import RtmpServices
from rapidrtmp.play.players import Players
from rapidrtmp.play.policy import PlayPolicy
from rapidrtmp.playback.admission import Admission
from rapidrtmp.rtmp.amf0 import read_values
from rapidrtmp.rtmp.chunk import ChunkLimits, ChunkReader, Message
from rapidrtmp.rtmp.limits import DEFAULT_LIMITS
from rapidrtmp.support.clock import now_ms
from rapidrtmp.testing.sinks import STARTED_AT_MS, FrameCollector
from rapidrtmp.timeline.policy import TimelinePolicy
from tests.applications import FakeApplication
from tests.codec.builders import audio_config, picture, sound, video_config
from tests.rtmp.amf_bytes import text
from tests.rtmp.client import HANDSHAKE, command, connect, message, publish

NAME = StreamName("live", "k")
_HANDSHAKE_ANSWER = 1 + 1536 + 1536
Answer = Verdict | Deferred[Verdict] | Exception


@implementer(IAuthenticator)
class ScriptedAuthenticator:
    """Answers what ``answer`` says, and remembers who asked; an exception is raised."""

    def __init__(self) -> None:
        self.answer: Any = Verdict(True, credential="c")
        self.requests: list[PublishRequest] = []

    def authorize_publish(self, request: PublishRequest) -> Verdict | Deferred[Verdict]:
        self.requests.append(request)
        if isinstance(self.answer, Exception):
            raise self.answer
        answer: Verdict | Deferred[Verdict] = self.answer
        return answer


@implementer(ITCPTransport)
class TcpTransport(StringTransport):
    """
    A transport with the options of TCP.

    :ivar options: those that were set, in words.
    :ivar socket: what stands for its socket; it is connected to nothing, and the test closes it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.options: list[str] = []
        self.socket = socket.socket()

    def setTcpNoDelay(self, enabled: bool) -> None:
        self.options.append(f"no delay {enabled}")

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.options.append(f"keep alive {enabled}")

    def getHandle(self) -> socket.socket:
        return self.socket


class Peer:
    """
    An encoder at the other end of a connection.

    :ivar transport: what the server writes to; it does not tell the protocol of its end by itself.
    """

    def __init__(self, factory: RtmpServerFactory, address: IAddress, transport: StringTransport | None = None) -> None:
        self.protocol: Any = factory.buildProtocol(address)
        self.transport = transport or StringTransport()
        self._answers = ChunkReader(ChunkLimits())
        self._skipped = False
        self.protocol.makeConnection(self.transport)

    @property
    def is_closed(self) -> bool:
        """Whether the server takes no more of it, and closes the connection before long."""
        return bool(self.protocol.is_closing)

    def say(self, *sent: bytes) -> None:
        """Send."""
        for each in sent:
            self.protocol.dataReceived(each)

    def connect(self, app: str = "live") -> Peer:
        """Up to the answer to connect and createStream."""
        self.say(HANDSHAKE + connect(app, f"rtmp://example.org/{app}"), command("createStream", 4))
        return self

    def publish(self, name: str = "k?token=secret") -> Peer:
        """Ask to publish."""
        self.say(publish(name))
        return self

    def play(self, name: str = "k", *others: bytes) -> Peer:
        """Ask to play."""
        self.say(command("play", 0, text(name), *others, msid=1))
        return self

    def leave(self) -> None:
        """The connection is gone."""
        self.protocol.connectionLost(Failure(ConnectionDone()))

    def heard(self) -> list[Message]:
        """The messages the server has sent since last time."""
        data = self.transport.value()
        self.transport.clear()
        if not self._skipped and data:
            self._skipped = True
            data = data[_HANDSHAKE_ANSWER:]
        self._answers.receive_data(data)
        return list(self._answers.messages())

    def commands(self) -> list[list[Any]]:
        """The values of the commands among them."""
        return [list(read_values(heard.payload)) for heard in self.heard() if heard.type_id == 20]

    def statuses(self) -> list[tuple[str, str, str]]:
        """The ``onStatus`` among them: level, code, description."""
        found = []
        for heard in self.heard():
            if heard.type_id == 20:
                name, *_, information = read_values(heard.payload)
                if name == "onStatus" and isinstance(information, dict):
                    words = (str(information.get(key)) for key in ("level", "code", "description"))
                    found.append(tuple(words))
        return found  # type: ignore[return-value]


class ScriptedLeases(StreamLeases):
    """Answers claims as a test wants."""

    def __init__(self, answer: Callable[[], Deferred[None]]) -> None:
        super().__init__()
        self._answer = answer

    def claim(self, name: StreamName) -> Deferred[None]:
        claim = super().claim
        return self._answer().addCallback(lambda _: claim(name))


class Edge:
    """
    A factory that listens, with a clock, a registry whose streams have a collector, and one authenticator.

    :ivar lease: what is answered when the lease of a name is claimed.
    :ivar collectors: the sink of each stream there was, in order.
    """

    def __init__(
        self,
        policy: ConnectionLimits = ConnectionLimits(),  # noqa: B008
        max_streams: int = 0,
        max_bitrate: int = 0,
        max_stream_bytes: int = 0,
        play_policy: PlayPolicy = PlayPolicy(),  # noqa: B008
    ) -> None:
        self.max_stream_bytes = max_stream_bytes
        self.clock = Clock()
        self.metrics = Metrics()
        self.authenticator = ScriptedAuthenticator()
        self.collectors: list[FrameCollector] = []
        self.failed: list[str] = []
        self.extra_sinks: list[Callable[[], Any]] = []
        limits = AppLimits(grace_ms=6_000)
        self.apps = apps = {"live": FakeApplication("live", self._make_stream, limits, self.authenticator)}
        self.registry = Registry(
            self.clock,
            apps,
            lambda stream: 2_000,
            max_streams=max_streams,
        )
        self.revocations = Revocations(self.utc_ms)
        self.players = Players(self.registry, self.clock, play_policy)
        self.admission = Admission(
            self.registry, apps, None, TrustedProxies(()), self.clock, b"salt", self.utc_ms, self.revocations
        )
        self.lease: Callable[[], Deferred[None]] = lambda: succeed(None)
        services = RtmpServices(
            registry=self.registry,
            leases=ScriptedLeases(lambda: self.lease()),
            apps=apps,
            app_names=AppNames({"live"}, ["old/studio=live"]),
            metrics=self.metrics,
            clock=self.clock,
            utc_ms=self.utc_ms,
            timeline=TimelinePolicy(),
            auth_timeout_ms=5_000,
            max_bitrate=max_bitrate,
            revocations=self.revocations,
            players=self.players,
            admission=self.admission,
        )
        self.factory = RtmpServerFactory(
            self.clock, services, self.metrics, bytes, policy=policy, limits=DEFAULT_LIMITS
        )
        self.factory.doStart()

    def utc_ms(self) -> int:
        """The time of day."""
        return STARTED_AT_MS + int(self.clock.seconds() * 1000)

    def _make_stream(self, name: StreamName) -> LiveStream:
        stream = LiveStream(
            name,
            Shelf(),
            Viewers(b""),
            started_at_ms=self.utc_ms(),
            fan_out=FanOut(name, failed=self.failed.append),
            begun_ms=now_ms(self.clock),
            max_bytes=self.max_stream_bytes,
            utc_of=lambda arrived_ms: STARTED_AT_MS + arrived_ms,
        )
        for number, make in enumerate(self.extra_sinks):
            stream.attach(f"extra{number}", make())
        collector = FrameCollector()
        self.collectors.append(collector)
        stream.attach("collector", collector)
        return stream

    def peer(self, host: str = "192.0.2.1") -> Peer:
        """A new connection."""
        return Peer(self.factory, IPv4Address("TCP", host, 50_000))

    def publisher(self, host: str = "192.0.2.1") -> Peer:
        """A connection that publishes ``live/k``."""
        peer = self.peer(host).connect().publish()
        peer.heard()
        return peer

    def wait(self, seconds: float) -> None:
        """Let time pass, in steps in which every timer runs."""
        self.clock.pump([0.25] * round(seconds * 4))

    def pause(self, seconds: float) -> None:
        """Stop the process for so long: no timer runs in between, and none runs twice for it."""
        self.clock.rightNow += seconds
        self.clock.advance(0)

    def metric(self, name: str, **labels: str) -> float:
        """A sample of a metric; 0 if it was never touched."""
        return self.metrics.registry.get_sample_value(f"rapidrtmp_{name}", labels) or 0.0

    def close(self) -> None:
        """Let go of everything; afterwards no timer may be left."""
        for protocol in list(self.factory.connections):
            protocol.connectionLost(Failure(ConnectionDone()))
        self.factory.doStop()
        self.registry.shut_down("the test is over")


def media(seconds: int = 3, start_ms: int = 0, with_audio: bool = True) -> Iterable[bytes]:
    """What an encoder sends once it publishes: configs, then 25 pictures a second, a keyframe in each, and sound."""
    yield message(9, video_config(), timestamp=start_ms)
    if with_audio:
        yield message(8, audio_config(), timestamp=start_ms)
    sounds = 0
    for number in range(25 * seconds):
        now = start_ms + number * 40
        yield message(9, picture(number % 25 == 0, mark=number), timestamp=now)
        while with_audio and sounds * 1024 // 48 < now - start_ms + 40:
            yield message(8, sound(sounds), timestamp=start_ms + sounds * 1024 // 48)
            sounds += 1
