"""
FLAC: STREAMINFO behind its length, then a frame.

Nothing but ``MediaError`` may escape; STREAMINFO is read as the same again, from its box as well; and a frame lasts no
longer than a block can.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.flac import FlacReader, read_dfla, read_stream_info, silent_flac, write_dfla
from rapidrtmp.errors import MediaError

__all__ = ["run"]

_PLAIN = read_stream_info(bytes.fromhex("04000400000000000000 0BB802F0") + bytes(20))


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    config = _PLAIN
    try:
        config = read_stream_info(parts.take(parts.number()))
    except MediaError:
        pass
    else:
        assert read_stream_info(config.record) == config
        assert read_dfla(write_dfla(config.record)) == config.record
        assert 1 <= config.channels <= 8
        assert FlacReader(config).read(silent_flac(config))
    reader, body = FlacReader(config), parts.rest()
    try:
        frame = reader.read(body)
    except MediaError:
        return
    assert frame is None or frame == body
    assert 0 < reader.samples <= 65_536
