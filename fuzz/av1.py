"""
AV1: a configuration record, and temporal units under it.

An input is a record behind its length, then temporal units behind theirs. Nothing but ``MediaError`` may escape; a
record that was written is read as what it was written from; and a temporal unit that was rewritten needs no rewriting.
"""

from __future__ import annotations

from dataclasses import replace

from fuzz.reading import Input
from rapidrtmp.codec.av1 import Av1Reader, Av1Search, is_known_av1, read_av1_config
from rapidrtmp.errors import MediaError

__all__ = ["run"]


def run(data: bytes) -> None:
    """One track. :raises AssertionError: an invariant does not hold."""
    parts = Input(data)
    try:
        config = read_av1_config(parts.sized())
    except MediaError:
        return
    again = read_av1_config(config.record)
    assert replace(config, mastering=None, light=None) == again, "a record that reads otherwise"
    assert is_known_av1(config, again)
    reader = Av1Reader(config)
    while parts:
        body = parts.sized()
        look(body)
        read_unit(body, reader)


def look(body: bytes) -> None:
    """Look for a configuration in a temporal unit."""
    try:
        Av1Search().look_at_frame(body)
    except MediaError:
        pass


def read_unit(body: bytes, reader: Av1Reader) -> None:
    """Read one temporal unit."""
    try:
        data = reader.read(body)
    except MediaError:
        return
    after, is_keyframe = reader.config, reader.keyframe
    if data is not None:
        assert reader.read(data) is data
        assert (reader.keyframe, reader.config) == (is_keyframe, after)
