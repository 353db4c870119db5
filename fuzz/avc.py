"""
H.264: a configuration record, and access units under it.

An input is a record behind its length, then access units behind theirs. Nothing but ``MediaError`` may escape; a record
that was written is read as what it was written from; and an access unit that was rewritten needs no rewriting.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.avc import AvcReader, read_avc_config
from rapidrtmp.codec.bits import remove_emulation_prevention
from rapidrtmp.errors import MediaError

__all__ = ["run"]


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    remove_emulation_prevention(data)
    try:
        config = read_avc_config(parts.sized())
    except MediaError:
        return
    assert read_avc_config(config.record) == config, "a record that reads otherwise"
    reader = AvcReader(config)
    while parts:
        read_unit(parts.sized(), reader)


def read_unit(body: bytes, reader: AvcReader) -> None:
    """Read one access unit."""
    before = reader.config
    try:
        data = reader.read(body)
    except MediaError:
        assert reader.config is before, "a change by what cannot be read"
        return
    after, is_idr = reader.config, reader.keyframe
    assert after is before or after != before, "a change to what was"
    assert read_avc_config(after.record) == after, "a record that reads otherwise"
    if data is not None:
        assert reader.read(data) is data
        assert (reader.keyframe, reader.config) == (is_idr, after)
