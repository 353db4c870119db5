"""
Opus: an identification header behind its length, then a packet.

Nothing but ``MediaError`` may escape; a header is read as the same again, from its box as well; and a packet lasts no
longer than it can.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.opus import OpusReader, opus_of_packet, read_dops, read_opus_head, silent_packet, write_dops
from rapidrtmp.errors import MediaError

__all__ = ["run"]

_PLAIN = opus_of_packet(b"\xfc")


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    config = _PLAIN
    try:
        config = read_opus_head(parts.take(parts.number()))
    except MediaError:
        pass
    else:
        assert read_opus_head(config.record) == config
        assert read_dops(write_dops(config.record)) == config.record
        assert config.channels > 0
        assert OpusReader(config).read(silent_packet(config))
    reader, body = OpusReader(config), parts.rest()
    try:
        packet = reader.read(body)
    except MediaError:
        return
    assert packet is None or packet == body
    assert 0 < reader.samples <= 5_760
