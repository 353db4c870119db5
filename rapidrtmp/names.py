"""
The public names of applications and streams, checked once at every way in.

A name appears in URLs, storage keys, playlists and logs, so it is held to characters that mean nothing special in any
of them. Everything past the edge carries a :class:`StreamName` and need not check again.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from rapidrtmp.errors import RapidRTMPError

__all__ = [
    "DEFAULT_APP",
    "I_FRAMES_PLAYLIST",
    "MAX_NAME_LENGTH",
    "MULTIVARIANT_PLAYLIST",
    "NAME_PATTERN",
    "POSTER",
    "RENDITION_PATTERN",
    "RESERVED_APPS",
    "UNPUBLISHABLE_ENDINGS",
    "BadNameError",
    "StreamName",
    "is_made_when_asked",
    "of_pictures",
    "pictured",
]

MAX_NAME_LENGTH = 128
#: The application of a stream key that comes without one.
DEFAULT_APP = "live"
#: The folder of a rendition beside a stream's muxed one: ``audio-1``; of a rung, ``720p``, ``720p-low`` or ``source``;
#: of captions, ``captions-en``.
RENDITION_PATTERN = (
    r"(?:(?:audio|video)-[0-9]{1,3}|captions-[a-z]{2,8}(?:-[a-z0-9]{1,8}){0,2}|"
    r"source|[0-9]{2,4}p(?:-[a-z0-9]{1,12})?)"
)
#: What the names of streams may not end in: ``/APP/KEY.flv`` is what players of FLV ask for.
UNPUBLISHABLE_ENDINGS = (".flv", ".m3u8")
#: All of a name.
NAME_PATTERN = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_NAME = re.compile(NAME_PATTERN)
#: What there is to choose from of a stream.
MULTIVARIANT_PLAYLIST = "master.m3u8"
#: What a picture is called, below the stream or the recording that it is of.
POSTER = "poster.mp4"
#: What lists a picture of each segment, below the stream or the recording that they are of.
I_FRAMES_PLAYLIST = "iframes.m3u8"
_OF_PICTURES = "iframe_"
#: First path segments that the HTTP side keeps for itself.
RESERVED_APPS = frozenset(
    {"api", "health", "ready", "startup", "metrics", "static", "recordings", "embed", "console", "favicon.ico"}
)


class BadNameError(RapidRTMPError):
    """A name that cannot be a stream's or an application's: 400 over HTTP, ``NetStream.Publish.BadName`` over RTMP."""


class StreamName(NamedTuple):
    """What is published and watched: ``app`` is the RTMP application, ``key`` the public name within it."""

    app: str
    key: str

    def __str__(self) -> str:
        return f"{self.app}/{self.key}"

    @classmethod
    def checked(cls, app: str, key: str) -> StreamName:
        """
        Make a name from what a stranger sent.

        :raises BadNameError: empty, longer than 128 characters, a reserved application, or holding anything but ASCII
            letters, digits and ``. _ ~ -`` (a leading ``.`` is refused, and so every path trick with it).
        """
        for what, value in (("application", app), ("stream key", key)):
            if not value:
                raise BadNameError(f"the {what} is empty")
            if len(value) > MAX_NAME_LENGTH:
                raise BadNameError(f"the {what} has {len(value)} characters, limit {MAX_NAME_LENGTH}")
            if not _NAME.fullmatch(value):
                raise BadNameError(f"the {what} may hold only letters, digits and . _ ~ - (not first: .)")
        if app in RESERVED_APPS:
            raise BadNameError(f"the application name {app!r} is reserved")
        return cls(app, key)

    def check_publishable(self) -> None:
        """
        Return if a stream of this name can be published.

        :raises BadNameError: it ends as the URLs of playlists and of FLV do.
        """
        if self.key.lower().endswith(UNPUBLISHABLE_ENDINGS):
            raise BadNameError(f"the stream key may not end in {' or '.join(UNPUBLISHABLE_ENDINGS)}")


def of_pictures(name: str) -> str:
    """What the picture of a segment, or the init segment of pictures, is called; ``name`` is that of all its media."""
    return _OF_PICTURES + name.removeprefix("segment_")


def pictured(name: str) -> str | None:
    """The name of the media whose picture, or whose init segment of pictures, has this name; ``None`` for others."""
    if not name.startswith(_OF_PICTURES):
        return None
    name = name.removeprefix(_OF_PICTURES)
    return f"segment_{name}" if name[:1].isdigit() else name


def is_made_when_asked(name: str) -> bool:
    """Whether what has this name is made of other things when it is asked for, and never stands anywhere."""
    return name.rpartition("/")[2].startswith(_OF_PICTURES)
