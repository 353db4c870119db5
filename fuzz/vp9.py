"""
VP9: a configuration record, and frames under it.

An input is a record behind its length, then frames behind theirs. Nothing but ``MediaError`` may escape; a
record that was written is read as what it was written from; and frames stay as they are.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.vp9 import Vp9Reader, Vp9Search, is_known_vp9, read_vp9_config, read_vpcc, write_vpcc
from rapidrtmp.errors import MediaError

__all__ = ["run"]


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    try:
        config = read_vp9_config(parts.sized())
    except MediaError:
        return
    assert read_vp9_config(config.record) == config, "a record that reads otherwise"
    assert read_vpcc(write_vpcc(config.record)) == config.record
    assert is_known_vp9(config, config)
    reader = Vp9Reader(config)
    while parts:
        body = parts.sized()
        look(body)
        read_unit(body, reader)


def look(body: bytes) -> None:
    """Look for a configuration in a frame."""
    try:
        Vp9Search().look_at_frame(body)
    except MediaError:
        pass


def read_unit(body: bytes, reader: Vp9Reader) -> None:
    """Read one frame."""
    try:
        data = reader.read(body)
    except MediaError:
        return
    assert data is body or not body
    after = reader.config
    assert read_vp9_config(after.record).codec_string == after.codec_string, "a record that reads otherwise"
