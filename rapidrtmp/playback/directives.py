"""
The delivery directives of Low-Latency HLS: what ``_HLS_msn``, ``_HLS_part`` and ``_HLS_skip`` ask for (RFC 8216 bis,
6.2.5).

A directive counts only where the playlist promises it: none in a final playlist, no delta update where none was made,
no blocking reload without ``CAN-BLOCK-RELOAD=YES``, no parts where there are none. What is not understood is ignored,
as the specification wants; what is understood and wrong is a 400.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl

from rapidrtmp.interfaces import BadRequestError, Playlist

__all__ = ["Directives", "TooFarAheadError", "read_directives"]

_NUMBER = re.compile(r"[0-9]{1,20}", re.ASCII)
#: What players send, and nothing else: worth reading without the general parser, for each of them sends it thrice a
#: second.
_USUAL = re.compile(r"_HLS_msn=([0-9]{1,20})(?:&_HLS_part=([0-9]{1,20}))?(?:&_HLS_skip=(YES|v2))?", re.ASCII)
_NAMES = ("_HLS_msn", "_HLS_part", "_HLS_skip")
_MAX_FIELDS = 100


class TooFarAheadError(BadRequestError):
    """What is asked for is too far in the future to wait for, as far as is known here."""


class Directives(NamedTuple):
    """
    What a request for a playlist asks beyond the playlist.

    :ivar sequence: the media sequence number that the answer must contain; ``None`` to answer at once.
    :ivar part: the part of it that suffices; ``None`` for the whole segment.
    :ivar skip: whether a delta update will do.
    """

    sequence: int | None = None
    part: int | None = None
    skip: bool = False


NOTHING = Directives()


def read_directives(playlist: Playlist, query: str) -> Directives:
    """
    Read the directives of a query that this playlist can honour.

    :param query: the query of the URL, still percent-encoded.
    :raises BadRequestError: a directive is given twice, is not a number, is a part without its segment, or asks for
        what is too far in the future to wait for (``TooFarAheadError``).
    """
    if "_HLS_" not in query or playlist.ended:
        return NOTHING
    given = _parse(query)
    skip = playlist.delta is not None and given.get("_HLS_skip") in ("YES", "v2")
    if not playlist.blocks:
        return Directives(skip=skip)
    sequence = _number(given, "_HLS_msn")
    part = _number(given, "_HLS_part") if playlist.part_target_ms else None
    if sequence is None:
        if part is not None:
            raise BadRequestError("_HLS_part needs _HLS_msn")
        return Directives(skip=skip)
    _check_advance(playlist, sequence, part)
    return Directives(sequence, part, skip)


def _parse(query: str) -> dict[str, str | None]:
    """The directives that are given, by name; ``None`` is as good as none."""
    usual = _USUAL.fullmatch(query)
    if usual:
        return dict(zip(_NAMES, usual.groups(), strict=True))
    given: dict[str, str | None] = {}
    try:
        fields = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as error:
        raise BadRequestError(f"the query has more than {_MAX_FIELDS} fields") from error
    for name, value in fields:
        if name in _NAMES:
            if name in given:
                raise BadRequestError(f"{name} is given more than once")
            given[name] = value
    return given


def _number(given: dict[str, str | None], name: str) -> int | None:
    value = given.get(name)
    if value is None:
        return None
    if not _NUMBER.fullmatch(value):
        raise BadRequestError(f"{name} is not a whole number, 0 or more")
    return int(value)


def _check_advance(playlist: Playlist, sequence: int, part: int | None) -> None:
    """
    Refuse what is further ahead than a player can be (6.2.5.2: the Advance Part Limit).

    A part is never refused that its segment may have: hls.js outside its low-latency mode asks for the last part
    number it has seen in a full segment, which can be further ahead than the limit of the specification.
    """
    newest = playlist.last_sequence + 1
    if sequence > newest + 1:
        raise TooFarAheadError(f"_HLS_msn={sequence} is too far ahead: the newest segment is {newest}")
    if part is None or sequence < newest:
        return
    listed = playlist.open_parts if sequence == newest else 0
    target_ms = playlist.part_target_ms
    advance = -(-3000 // target_ms) if target_ms < 1000 else 3
    in_segment = max(playlist.last_segment_parts, -(-playlist.target_ms // target_ms))
    limit = max(listed - 1 + advance, in_segment)
    if part > limit:
        raise TooFarAheadError(f"_HLS_part={part} is too far ahead: at most {limit} in segment {sequence}")
