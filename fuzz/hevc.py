"""
HEVC: a configuration record, and access units under it.

An input is a record behind its length, then access units behind theirs. Nothing but ``MediaError`` may escape; a record
that was written is read as what it was written from; and an access unit that was rewritten needs no rewriting.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.hevc import HevcReader, read_hevc_config
from rapidrtmp.errors import MediaError

__all__ = ["run"]


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    try:
        config = read_hevc_config(parts.sized())
    except MediaError:
        return
    assert read_hevc_config(config.record) == config, "a record that reads otherwise"
    reader = HevcReader(config)
    while parts:
        read_unit(parts.sized(), reader)


def read_unit(body: bytes, reader: HevcReader) -> None:
    """Read one access unit."""
    before = reader.config
    try:
        data = reader.read(body)
    except MediaError:
        assert reader.config is before, "a change by what cannot be read"
        return
    after, is_keyframe = reader.config, reader.keyframe
    assert after is before or after != before, "a change to what was"
    assert read_hevc_config(after.record) == after, "a record that reads otherwise"
    if data is not None:
        assert reader.read(data) is data
        assert (reader.keyframe, reader.config) == (is_keyframe, after)
