"""An RTMP application, as those see it that serve its streams or add to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zope.interface import Attribute, Interface

from rapidrtmp.interfaces.auth import IAuthenticator, IPlayAuthenticator
from rapidrtmp.interfaces.relays import AppRelays
from rapidrtmp.interfaces.sinks import Purpose
from rapidrtmp.interfaces.storage import IStorage
from rapidrtmp.names import StreamName
from rapidrtmp.support.limits import limit

__all__ = ["AppLimits", "IApplication"]


@dataclass(frozen=True, slots=True)
class AppLimits:
    """
    What one application allows its streams.

    :ivar grace_ms: how long a stream waits for its publisher to return; ``None`` for three target durations.
    :ivar linger_ms: how long the playlists of an ended stream stay up.
    :ivar takeover_silence_ms: a publisher not heard of for this long gives way to one with the same credential.
    :ivar max_streams: how many streams of this application may be live at one time; 0 for no limit.
    :ivar max_viewers_per_stream: how many viewers one of them may have at one time; 0 for no limit.
    :ivar max_bitrate_bps: bits a second that one publisher may send; 0 for no limit.
    :ivar max_egress_bps: bits a second sent to all viewers from which on new ones are refused; 0 for no limit.
    :ivar max_connections_per_ip: how many publishers may come from one address; 0 for no limit.
    :ivar max_players_per_token: how many players may use one token at one time, if it does not say; 0 for no limit.
    """

    grace_ms: int | None = limit(
        None, "How long a stream waits for its publisher to return; auto: three target durations"
    )
    linger_ms: int = limit(60_000, "How long an ended playlist stays")
    takeover_silence_ms: int = limit(1_000, "Silence after which the same credential may take over a publish")
    max_streams: int = limit(0, "Streams live at once, all apps together; 0 for no limit")
    max_viewers_per_stream: int = limit(0, "Viewers of one stream at once; 0 for no limit")
    max_bitrate_bps: int = limit(0, "What one publisher may send, over ten seconds; 0 for no limit")
    max_egress_bps: int = limit(0, "What an app may send; beyond it new viewers are refused; 0 for no limit")
    max_connections_per_ip: int = limit(
        0, "Connections at once from one address, to RTMP, to HTTP, and publishing to one app; 0 for other limits alone"
    )
    max_players_per_token: int = limit(0, "Players that may use one token at once, if it does not say; 0 for no limit")


class IApplication(Interface):
    """
    One RTMP application. It never changes: where its settings do, another one takes its place in the mapping that it
    was found in, and a stream keeps the one that it was made with.
    """

    name: str = Attribute("As it stands in URLs.")
    is_leaving: bool = Attribute(
        "Whether the settings no longer have it: it takes no new streams, and is gone when its last one is."
    )
    limits: AppLimits = Attribute("What it allows its streams.")
    relays: AppRelays = Attribute("Which of its streams go to other servers, and which come from there.")
    authenticator: IAuthenticator = Attribute("Who may publish in it; an ``ITokenIssuer`` besides if it issues tokens.")
    play_authenticator: IPlayAuthenticator | None = Attribute("Who may watch, likewise; ``None`` for all.")
    has_secret_keys: bool = Attribute(
        "Whether its streams are called otherwise than by the keys they are published with."
    )
    sinks: Mapping[str, Any] = Attribute("The ``ISinkFactory`` of each sink of its streams, by the sink's name.")

    def public_name(key: str) -> str | None:
        """What the stream is called that a key publishes; ``None`` if it publishes none."""

    def storage(purpose: Purpose) -> IStorage:
        """Where its sinks store things for a purpose; the same object where applications share a storage."""

    def make_stream(name: StreamName) -> Any:
        """A new live stream with a sink of each factory; a sink that cannot be made is left out, counted and logged."""
