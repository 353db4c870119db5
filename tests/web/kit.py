"""What the tests of the HTTP side share: a server in memory, and a client that speaks to it byte by byte."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from treq.testing import StubTreq
from twisted.internet.address import IPv4Address
from twisted.internet.interfaces import ISSLTransport
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from werkzeug.routing import Rule
from zope.interface import alsoProvides, implementer

from rapidrtmp.auth.revocation import Revocations
from rapidrtmp.codec.table import AAC, AVC
from rapidrtmp.hls.i_frames import Pictures
from rapidrtmp.hls.rewind.http import Rewinding
from rapidrtmp.http.addresses import TrustedProxies
from rapidrtmp.interfaces import (
    AppLimits,
    ContributionContext,
    ITokenIssuer,
    Playlist,
    RecordEvent,
    StreamDemand,
    TokenTerms,
    no_demand,
    no_event,
)
from rapidrtmp.live.registry import Registry
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.media import AudioConfig, Frame, VideoConfig
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.playback.admission import Admission
from rapidrtmp.playback.overload import Overload
from rapidrtmp.recording.contribution import RecordingsContribution
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.support.clock import now_ms
from rapidrtmp.testing.frames import measured
from rapidrtmp.testing.sinks import make_sink_context
from rapidrtmp.web.api_access import ApiAccess, ApiSecret
from rapidrtmp.web.app import make_sites
from rapidrtmp.web.peer_user import LocalPeer
from rapidrtmp.web.policy import HttpPolicy
from rapidrtmp.web.readiness import Readiness
from tests.applications import FakeApplication


def _no_url(*_: object) -> None:
    """Stands for the functions that each rule compiles to build URLs with, for which a server takes longest to make."""
    raise AssertionError("no URL is built")


Rule._compile_builder = lambda *_: _no_url  # type: ignore[method-assign,assignment]

EPOCH_MS = 1_700_000_000_000
VIDEO = AVC.make_track(1, VideoConfig(b"", "avc1.64001f", 1280, 720))
AUDIO = AAC.make_track(2, AudioConfig(b"", "mp4a.40.2", 48_000, 2, 1024))
MP4 = "video/mp4"


@implementer(ITokenIssuer)
class Issuer:
    """Issues tokens that say what was asked for."""

    def issue_token(self, stream: StreamName, lifetime_s: int, terms: TokenTerms) -> str:
        return f"secret-{stream.app}-{stream.key}-{lifetime_s}"


@dataclass
class Encoder:
    """A publisher, as far as a registry cares."""

    peer: str = "192.0.2.7"
    credential: str = "the-credential"
    reasons: list[str] = field(default_factory=list)

    def silent_ms(self) -> int:
        return 0

    def disconnect(self, reason: str) -> None:
        self.reasons.append(reason)

    def disconnect_at_keyframe(self, reason: str, within_ms: int) -> None:
        self.disconnect(reason)


def find_peer(transport: Any) -> LocalPeer | None:
    """Our own user, wherever the other end of a connection in memory has a loopback address."""
    address = ip_address(transport.getPeer().host)
    return LocalPeer(os.geteuid(), address) if address.is_loopback else None


def _make_sink(stream: LiveStream, sink: str, factory: Any, recovered: Mapping[str, bytes]) -> Any:
    return factory.create(make_sink_context(stream=stream.name, shelf=stream.shelf, recovered=recovered))


class Server:
    """The whole HTTP side on a clock that stands still, with nothing live yet."""

    def __init__(
        self,
        *,
        api_token: str = "made-on-first-start",
        max_viewers: int = 0,
        judge: Any = None,
        max_players: int = 0,
        manager: Any = None,
        record: RecordEvent = no_event,
        find_busy_s: Callable[[], float] | None = None,
        **policy: Any,
    ) -> None:
        self.demand: StreamDemand = no_demand
        self.clock = Clock()
        self.clock.advance(1_000)
        self.metrics = Metrics()
        self.readiness = Readiness(self.clock)
        self.policy = HttpPolicy(**policy)
        self.storage = MemoryStorage(self.utc_ms)
        self.apps = {
            name: FakeApplication(
                name,
                self._make_stream,
                AppLimits(max_viewers_per_stream=most, max_players_per_token=max_players),
                issuer,
                judge if name == "live" else None,
                stored=self.storage,
            )
            for name, issuer, most in (("live", Issuer(), max_viewers), ("open", None, 0))
        }
        self.revocations = Revocations(self.utc_ms)
        self.registry = Registry(
            self.clock,
            self.apps,
            lambda stream: 2000,
        )
        self.overload = None
        admission = None
        if find_busy_s is not None:
            self.overload = Overload(self.clock, find_busy_s, self.policy.max_viewer_lag_ms)
            admission = open_admission(self, self.overload)
        context = ContributionContext(
            self.apps,
            self.registry,
            lambda _purpose: self.storage,
            self.clock,
            self.utc_ms,
            self.metrics.registry,
            find_playable=self.registry.find,
        )
        contributors = RecordingsContribution(), Pictures(), Rewinding()
        self.contributions = [each.contribute(context) for each in contributors]
        sites = make_sites(
            registry=self.registry,
            metrics=self.metrics,
            readiness=self.readiness,
            apps=self.apps,
            policy=self.policy,
            clock=self.clock,
            utc_ms=self.utc_ms,
            contributions=self.contributions,
            viewer_salt=b"salt",
            access=ApiAccess(
                ApiSecret(api_token.encode()),
                self.policy,
                self.clock,
                find_peer,
                record,
                lambda: manager,
                self.revocations,
            ),
            find_public_door=lambda: ("https", 8443),
            revocations=self.revocations,
            admission=admission,
            demand=lambda name, via: self.demand(name, via),
        )
        self.site = sites.public
        self.management = sites.management
        self.treq: Any = StubTreq(self.site.resource)

    def utc_ms(self) -> int:
        return EPOCH_MS + int(self.clock.seconds() * 1000)

    def _make_stream(self, name: StreamName) -> LiveStream:
        return LiveStream(
            name,
            Shelf(max_waiters=10),
            Viewers(b"salt"),
            started_at_ms=self.utc_ms(),
            begun_ms=now_ms(self.clock),
            make_sink=_make_sink,
        )

    def publish(self, key: str = "k", app: str = "live") -> LiveStream:
        """A stream that a publisher has just claimed: starting."""
        return self.registry.claim(StreamName(app, key), Encoder())

    def live(self, key: str = "k", app: str = "live") -> LiveStream:
        """A stream that has received a second of video."""
        stream = self.publish(key, app)
        stream.tracks_changed((VIDEO, AUDIO))
        begun_ms = int(self.clock.seconds() * 1000) - 2000
        frames = (
            Frame(VIDEO, number * 3000, 0, 3000, number == 0, bytes(1000), begun_ms + number * 33)
            for number in range(30)
        )
        for frame in measured(frames):
            stream.frame_received(frame)
        return stream

    def connect(self, peer: str = "127.0.0.1") -> Wire:
        """A connection from ``peer``."""
        return Wire(self.site, peer)

    def request(self, method: str, path: str, body: bytes = b"", *, peer: str = "127.0.0.1", **headers: str) -> Reply:
        """One request on a connection of its own, answered at once."""
        wire = self.connect(peer)
        wire.request(method, path, body, **headers)
        return wire.reply(method)

    def get(self, path: str, *, peer: str = "127.0.0.1", **headers: str) -> Reply:
        return self.request("GET", path, peer=peer, **headers)

    def post(self, path: str, value: object = None, *, peer: str = "127.0.0.1", **headers: str) -> Reply:
        return self.request("POST", path, json.dumps(value).encode(), peer=peer, **headers)

    def metric(self, name: str, **labels: str) -> float:
        """What a metric stands at; 0 if it never moved."""
        return self.metrics.registry.get_sample_value(f"rapidrtmp_{name}", labels) or 0.0


def open_admission(server: Server, overload: Overload | None = None) -> Admission:
    """What admits to the streams of a server."""
    return Admission(
        server.registry,
        server.apps,
        None,
        TrustedProxies(()),
        server.clock,
        b"salt",
        server.utc_ms,
        server.revocations,
        overload=overload,
    )


@dataclass
class Reply:
    """An answer as it came over the wire; field names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    def text(self) -> str:
        body = gzip.decompress(self.body) if self.headers.get("content-encoding") == "gzip" else self.body
        return body.decode()


class Wire:
    """One HTTP/1.1 connection, in memory."""

    def __init__(
        self,
        site: Any,
        peer: str = "127.0.0.1",
        *,
        is_encrypted: bool = False,
        transport: StringTransport | None = None,
    ) -> None:
        address = IPv4Address("TCP", peer, 50_000)
        self.transport = transport or StringTransport(peerAddress=address)
        if is_encrypted:
            self.transport.setTcpNoDelay = lambda _enabled: None  # type: ignore[attr-defined]
            alsoProvides(self.transport, ISSLTransport)
        self.protocol = site.buildProtocol(address)
        self.protocol.makeConnection(self.transport)

    def request(self, method: str, path: str, body: bytes = b"", **headers: str) -> None:
        """Send a request; ``_`` in a header's name stands for ``-``."""
        fields = {"Host": "localhost:8080", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if body:
            fields["Content-Length"] = str(len(body))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)

    def send(self, data: bytes) -> None:
        self.protocol.dataReceived(data)

    def leave(self) -> None:
        """Close the connection from the client's side."""
        self.protocol.connectionLost(Failure(ConnectionError("the client left")))

    @property
    def is_answered(self) -> bool:
        return bool(self.transport.value())

    def reply(self, method: str = "GET") -> Reply:
        """Take the next answer off what was received; it must be whole."""
        head, found, rest = self.transport.value().partition(b"\r\n\r\n")
        assert found, f"no answer yet: {head!r}"
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        status = int(status_line.split()[1])
        size = 0 if method == "HEAD" or status in (204, 304) else int(headers.get("content-length", "0"))
        assert len(rest) >= size, f"{len(rest)} of {size} bytes"
        self.transport.clear()
        self.transport.write(rest[size:])
        return Reply(status, headers, rest[:size])


def playlist(
    last: int = 9,
    open_parts: int = 0,
    *,
    parts: int = 6,
    delta: bytes | None = None,
    target_ms: int = 2000,
    part_target_ms: int = 334,
    ended: bool = False,
    control: bytes = b"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES",
) -> Playlist:
    """A playlist that says of itself where it ends."""
    body = b"#EXTM3U\n%s\n# %d.%d%s\n" % (control, last, open_parts, b" end" if ended else b"")
    return Playlist(
        body, delta, last, open_parts, parts, target_ms, part_target_ms, ended, 0, b"CAN-BLOCK-RELOAD=YES" in control
    )
