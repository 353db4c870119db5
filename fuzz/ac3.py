"""
AC-3 and E-AC-3: the first bit says which; then messages, each behind its length, of one track.

Nothing but ``MediaError`` may escape; configurations are read as the same again; and samples are whole sync frames.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.pieces import Moment
from rapidrtmp.codec.table import CODECS
from rapidrtmp.errors import MediaError

__all__ = ["run"]

_CODECS = (CODECS["ac-3"], CODECS["ec-3"])


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    messages = Input(data)
    codec = _CODECS[messages.number() & 1]
    assert codec.config_of_frame and codec.read_config and codec.reader and codec.pieces
    first = messages.sized()
    try:
        config = codec.config_of_frame(first)
    except MediaError:
        return
    assert codec.read_config(config.record).record == config.record
    reader = codec.reader(config)
    pieces = codec.pieces(reader, None)
    body, samples = first, b""
    came = len(first)
    while body:
        try:
            whole = None if pieces.is_needed else reader.read(body)
            samples += whole or b"".join(unit.data for unit in pieces.add(body, Moment(0, 0, 0, 0)))
        except MediaError:
            return
        assert not samples or samples.startswith(b"\x0b\x77")
        body = messages.sized()
        came += len(body)
    assert len(samples) <= came
