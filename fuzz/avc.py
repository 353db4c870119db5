"""
H.264: a configuration record, and access units under it.

An input is a record behind its length, then access units behind theirs. Nothing but ``MediaError`` may escape; a record
that was written is read as what it was written from; and an access unit that was rewritten needs no rewriting.
"""

from __future__ import annotations

from fuzz.reading import Input
from rapidrtmp.codec.avc import read_access_unit, read_avc_config
from rapidrtmp.codec.bits import remove_emulation_prevention
from rapidrtmp.errors import MediaError
from rapidrtmp.media import VideoConfig

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
    while parts:
        config = read_unit(parts.sized(), config)


def read_unit(body: bytes, config: VideoConfig) -> VideoConfig:
    """Read one access unit; the configuration from then on."""
    try:
        unit = read_access_unit(body, config)
    except MediaError:
        return config
    if unit is None:
        return config
    after = unit.config or config
    assert unit.config != config, "a change to what was"
    assert read_avc_config(after.record) == after, "a record that reads otherwise"
    again = read_access_unit(unit.data, after)
    assert again is not None
    assert again.data is unit.data
    assert (again.is_idr, again.config) == (unit.is_idr, None)
    return after
