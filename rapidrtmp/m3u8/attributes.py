"""The small grammar within playlist lines: attribute lists, decimal seconds, byte ranges, dates (RFC 8216 bis, 4.2)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

__all__ = ["Attributes", "BadValueError", "parse_byte_range", "parse_date_us", "parse_integer", "parse_seconds_us"]

_ATTRIBUTE = re.compile(r'([A-Z0-9-]+)=("[^"\r\n]*"|[^",\s]+)(,|$)')
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]*)?", re.ASCII)
_INTEGER = re.compile(r"[0-9]{1,20}", re.ASCII)
_BYTE_RANGE = re.compile(r"([0-9]{1,18})(?:@([0-9]{1,18}))?", re.ASCII)
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
_MICROSECOND = timedelta(microseconds=1)


class BadValueError(Exception):
    """A value that is not what the grammar asks for."""


def parse_seconds_us(text: str) -> int:
    """Decimal seconds as microseconds; further places are cut off."""
    if not _SECONDS.fullmatch(text):
        raise BadValueError(f"{text!r} is no decimal number of seconds")
    whole, _, fraction = text.partition(".")
    return int(whole) * 1_000_000 + int((fraction + "000000")[:6])


def parse_integer(text: str) -> int:
    """A decimal integer, 0 or more."""
    if not _INTEGER.fullmatch(text):
        raise BadValueError(f"{text!r} is no decimal integer")
    return int(text)


def parse_date_us(text: str) -> int:
    """A date and time of day with its zone, in microseconds since 1970."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadValueError(f"{text!r} is no date and time (ISO 8601)") from error
    if moment.tzinfo is None:
        raise BadValueError(f"{text!r} names no time zone")
    return (moment - _EPOCH) // _MICROSECOND


def parse_byte_range(text: str, following: int | None) -> tuple[int, int]:
    """``n[@o]`` as size and offset; ``following`` is where the range before ended, if that was in the same URI."""
    match = _BYTE_RANGE.fullmatch(text)
    if match is None:
        raise BadValueError(f"{text!r} is no byte range")
    if match[2] is None and following is None:
        raise BadValueError(f"{text!r} has no offset, and nothing goes before it")
    return int(match[1]), int(match[2] or following or 0)


class Attributes:
    """
    An attribute list, ``NAME=value,NAME="value"``. Every method raises ``BadValueError`` for what it cannot be.

    :ivar raw: the values as written, with their quotes.
    """

    def __init__(self, text: str) -> None:
        found = _ATTRIBUTE.findall(text)
        if sum(len(name) + len(value) + len(comma) + 1 for name, value, comma in found) != len(text) or not found:
            raise BadValueError(f"{text!r} is no attribute list")
        if found[-1][2]:
            raise BadValueError("the attribute list ends in a comma")
        self.raw = {name: value for name, value, _ in found}
        if len(self.raw) != len(found):
            raise BadValueError("an attribute is there twice")

    def quoted(self, name: str, default: str | None = None) -> str:
        """A quoted string, without its quotes; it must be there unless there is a ``default``."""
        value = self._value(name, default)
        if value is None:
            return default or ""
        if value[0] != '"':
            raise BadValueError(f"{name} is not quoted")
        return value[1:-1]

    def uri(self) -> str:
        """Its URI, which cannot be empty."""
        uri = self.quoted("URI")
        if not uri:
            raise BadValueError("the URI is empty")
        return uri

    def enumerated(self, name: str, default: str | None = None) -> str:
        """A bare word: one that players would not recognise between quotes."""
        value = self._value(name, default)
        if value is None:
            return default or ""
        if value[0] == '"':
            raise BadValueError(f"{name} is quoted")
        return value

    def yes(self, name: str) -> bool:
        """Whether it says YES; NO is what it says otherwise."""
        value = self.enumerated(name, "NO")
        if value not in ("YES", "NO"):
            raise BadValueError(f"{name} is {value!r}, not YES or NO")
        return value == "YES"

    def seconds_us(self, name: str) -> int:
        """A duration in microseconds."""
        return parse_seconds_us(self.enumerated(name))

    def integer(self, name: str, default: int | None = None) -> int:
        """A decimal integer."""
        if default is not None and name not in self.raw:
            return default
        return parse_integer(self.enumerated(name))

    def _value(self, name: str, default: str | None) -> str | None:
        value = self.raw.get(name)
        if value is None and default is None:
            raise BadValueError(f"{name} is missing")
        return value
