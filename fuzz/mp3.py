"""
MP3: a frame that a track begins with behind its length, then a message of any frames.

Nothing but ``MediaError`` may escape; the configuration is read as the same again; and frames are what was there.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.mp3 import Mp3Reader, mp3_of_frame, read_mp3_record, silent_mp3
from rapidrtmp.errors import MediaError

__all__ = ["run"]

_PLAIN = mp3_of_frame(b"\xff\xfb\x94\x64")


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    config = _PLAIN
    try:
        config = mp3_of_frame(parts.take(parts.number()))
    except MediaError:
        pass
    else:
        assert read_mp3_record(config.record) == config
        assert Mp3Reader(config).read(silent_mp3(config))
    reader, body = Mp3Reader(config), parts.rest()
    try:
        assert reader.read(body) in (None, body)
        assert b"".join(reader.split(body)) == body
    except MediaError:
        return
