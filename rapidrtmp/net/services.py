"""What all RTMP connections share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rapidrtmp.auth.revocation import Revocations
from rapidrtmp.interfaces import IApplication, RecordEvent, no_event
from rapidrtmp.live.leases import StreamLeases
from rapidrtmp.live.registry import Registry
from rapidrtmp.metrics import Metrics
from rapidrtmp.names import StreamName
from rapidrtmp.net.app_names import AppNames
from rapidrtmp.net.auth_backoff import AuthBackoff
from rapidrtmp.play.players import Players
from rapidrtmp.playback.admission import Admission
from rapidrtmp.support.clock import utc_ms
from rapidrtmp.support.log_throttle import Episodes
from rapidrtmp.timeline.policy import TimelinePolicy

__all__ = ["RtmpServices"]


@dataclass(frozen=True)
class RtmpServices:
    """
    The parts of the server that connections use.

    :ivar apps: the applications by name; one that is not here does not exist.
    :ivar app_names: which of them a client means.
    :ivar utc_ms: the time of day in milliseconds since 1970.
    :ivar auth_timeout_ms: how long an authenticator may take.
    :ivar max_bitrate: bits a second that one publisher may send; 0 for no limit.
    :ivar leases: which streams other servers write into the same storage.
    :ivar own: ``own(stream, credential, peer)`` has this process own a stream that a client may publish, where several
        processes serve the same, and holds its leases; ``None`` where that is what ``leases`` does.
    :ivar auth_backoff: which clients were refused too often.
    :ivar revocations: which credentials are good no more.
    :ivar log_throttle: which events deserve a line in the log.
    :ivar record: records what happens.
    :ivar server_id: what other servers know this one by.
    :ivar players: those who play; ``None`` where that cannot be done.
    :ivar admission: admits viewers.
    """

    registry: Registry
    apps: Mapping[str, IApplication]
    app_names: AppNames
    metrics: Metrics
    clock: IReactorTime
    utc_ms: Callable[[], int]
    timeline: TimelinePolicy
    auth_timeout_ms: int = 10_000
    max_bitrate: int = 0
    leases: StreamLeases = field(default_factory=StreamLeases)
    own: Callable[[StreamName, str, str], Deferred[None]] | None = None
    auth_backoff: AuthBackoff = field(default_factory=AuthBackoff)
    revocations: Revocations = field(default_factory=lambda: Revocations(utc_ms))
    log_throttle: Episodes = field(default_factory=Episodes)
    record: RecordEvent = no_event
    server_id: str = "server"
    players: Players | None = None
    admission: Admission | None = None
