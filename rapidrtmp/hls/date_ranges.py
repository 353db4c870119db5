"""
Marks of an encoder as EXT-X-DATERANGE (RFC 8216 bis, 4.4.5.1): cue points and whatever else it says of a moment, for
players that act on it before that is reached.

A message such as ``onCuePoint {name: "ad", parameters: {duration: 30}}`` becomes ``CLASS="org.rapidrtmp.onCuePoint"``,
``X-NAME="ad"``, ``X-PARAMETERS-DURATION=30``. It is listed with the segment in which it came, for as long as that is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from zlib import crc32

from rapidrtmp.m3u8.write import render_date_time
from rapidrtmp.media import TimedMetadata

__all__ = ["date_range"]

CLASS_PREFIX = "org.rapidrtmp."
#: Texts are for the moment that is shown: of those a playlist would grow long.
_NOT_LISTED = frozenset({"onTextData", "onCaption", "onCaptionInfo"})
MOST_ATTRIBUTES, MOST_CHARACTERS, DEEPEST = 24, 500, 3
_NAME = re.compile(r"[^A-Z0-9-]+")
_NOT_QUOTABLE = re.compile(r'[\x00-\x1f\x7f"]')


def date_range(metadata: TimedMetadata, utc_ms: int) -> str:
    """
    The attributes of the tag; empty for what is not listed.

    :param utc_ms: the moment, in milliseconds since 1970.
    """
    name = _quotable(metadata.name)
    if not name or name in _NOT_LISTED:
        return ""
    attributes: dict[str, str] = {}
    for value in metadata.values:
        for key, said in _flat("", value, DEEPEST):
            if len(attributes) < MOST_ATTRIBUTES:
                attributes.setdefault(key, said)
    number = crc32(repr(sorted(attributes.items())).encode())
    head = [f'ID="{name}-{utc_ms}-{number:08x}"', f'CLASS="{CLASS_PREFIX}{name}"', f'START-DATE="{_date(utc_ms)}"']
    return ",".join([*head, *(f"X-{key}={said}" for key, said in attributes.items())])


def _date(utc_ms: int) -> str:
    return render_date_time(utc_ms * 1000)


def _flat(prefix: str, value: object, deep: int) -> Iterator[tuple[str, str]]:
    """Names and values of attributes: what is in objects has the names of these before its own."""
    if isinstance(value, Mapping):
        for key, each in value.items() if deep else ():
            name = _NAME.sub("-", str(key).upper())[:40].strip("-")
            if name:
                yield from _flat(f"{prefix}-{name}" if prefix else name, each, deep - 1)
    elif isinstance(value, bool) or value is None:
        yield prefix or "VALUE", f'"{str(value).lower()}"'
    elif isinstance(value, int | float):
        yield prefix or "VALUE", _number(value)
    elif isinstance(value, str):
        yield prefix or "VALUE", f'"{_quotable(value)}"'


def _number(value: float) -> str:
    """A decimal floating-point number without an exponent (4.2); what is none is text."""
    if value != value or abs(value) >= 1e15:
        return f'"{value}"'
    return f"{value:.6f}".rstrip("0").rstrip(".")


def _quotable(text: str) -> str:
    return _NOT_QUOTABLE.sub(" ", text[:MOST_CHARACTERS]).encode("utf-8", "replace").decode()
