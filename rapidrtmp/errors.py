"""
Every exception RapidRTMP raises on purpose.

Each layer raises the one that names what went wrong and turns foreign exceptions into it where they enter
(``raise StorageError(...) from error``). What each means for the peer, the stream and the process is said here, so
that the edge can react to the class alone.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "ConfigurationError",
    "DirectoryError",
    "LeaseHeldError",
    "MediaError",
    "MisuseError",
    "NotFoundError",
    "OwnerChangedError",
    "PeerProtocolError",
    "RapidRTMPError",
    "StorageError",
    "TooManyPiecesError",
    "UnsupportedCodecError",
]


class RapidRTMPError(Exception):
    """The root: catch this to catch all that we raise deliberately."""


class PeerProtocolError(RapidRTMPError):
    """The other side broke a rule of its protocol: one warning, and that one connection closes."""


class MisuseError(RapidRTMPError):
    """Our own code asked for the impossible. A bug: let it raise."""


class MediaError(RapidRTMPError):
    """
    Media that arrived whole but cannot be packaged: the frame or track is dropped, the stream stays.

    :cvar problem: the kind of problem that it is: see :class:`~rapidrtmp.timeline.events.MediaProblem`.
    """

    problem: ClassVar[str] = "malformed"


class TooManyPiecesError(MediaError):
    """
    A message made of so many units or frames that reading it would keep all else waiting.

    :param most: how many of ``what`` it may have.
    """

    problem = "too_many_pieces"

    def __init__(self, most: int, what: str) -> None:
        super().__init__(f"more than {most} {what}")


class UnsupportedCodecError(MediaError):
    """
    A variant of a codec that is not carried, though others of it are: the track is left out.

    :ivar codec: its codec string.
    """

    def __init__(self, message: str, codec: str) -> None:
        super().__init__(message)
        self.codec = codec


class NotFoundError(RapidRTMPError):
    """No such stream, segment or stored object: 404 over HTTP."""


class StorageError(RapidRTMPError):
    """
    A storage backend failed.

    :ivar retryable: whether the same request may succeed later (a timeout, a full disk) or never will (a bad key).
    """

    def __init__(self, message: str, *, retryable: bool = True) -> None:
        super().__init__(message)
        self.retryable = retryable


class LeaseHeldError(RapidRTMPError):
    """Another process, which is alive, writes this into the storage: leave it alone, and let no publisher have it."""


class DirectoryError(RapidRTMPError):
    """The directory of who owns which stream does not answer: ask again later, and end nothing for it."""


class OwnerChangedError(RapidRTMPError):
    """A name in that directory was to be moved from a node that does not own it any more."""


class ConfigurationError(RapidRTMPError):
    """A setting, plugin name or plugin argument that cannot be used: the server does not start; one line says why."""
