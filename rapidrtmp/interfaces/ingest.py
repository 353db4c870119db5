"""Streams that come by other ways than a client's publish: what a contributor brings them in by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from zope.interface import Interface

from rapidrtmp.names import StreamName

__all__ = ["IPublishing", "Publication"]


@dataclass(frozen=True)
class Publication:
    """
    What is to be published.

    :ivar peer: the network address that it comes from.
    :ivar client: what it comes by, in a word, for logs and events.
    :ivar credential: what distinguishes its source from others; one with the same may take the name over.
    :ivar via: the ids of the servers that it came through.
    :ivar ended: called once when it is ended by the server, with the reason; not after ``IPublishing.end``.
    :ivar hold: called with whether to send nothing for now: it is ahead of real time.
    """

    name: StreamName
    peer: str
    client: str
    credential: str = field(repr=False)
    via: tuple[str, ...] = ()
    ended: Callable[[str], None] = lambda _reason: None
    hold: Callable[[bool], None] = lambda _is_held: None


class IPublishing(Interface):
    """
    A publish of a contributor's. To all others it is one like any: the same timeline, limits, health and grace.

    Bodies are those of FLV tags, timestamps are in milliseconds modulo 2**32. After the end calls change nothing.
    """

    def video(timestamp: int, body: bytes) -> None:
        """Take a video message."""

    def audio(timestamp: int, body: bytes) -> None:
        """Take an audio message."""

    def metadata(values: Mapping[str, object]) -> None:
        """Take a description of the stream (``onMetaData``)."""

    def end(*, is_final: bool = False) -> None:
        """End it: the stream waits for another one in its grace time, or ends as well."""
