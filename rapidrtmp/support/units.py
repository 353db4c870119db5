"""
Quantities as operators write them: durations, sizes and network addresses, read into integers and endpoint strings.

Each reader takes text and raises :class:`~rapidrtmp.errors.ConfigurationError` with a sentence that quotes what was
read and shows what would be right; the caller adds where it was read.
"""

from __future__ import annotations

import re
from fractions import Fraction

from twisted.internet.endpoints import quoteStringArgument

from rapidrtmp.errors import ConfigurationError

__all__ = [
    "address_endpoint",
    "parse_address",
    "parse_bitrate",
    "parse_duration_ms",
    "parse_duration_s",
    "parse_size",
    "render_bitrate",
    "render_duration_ms",
    "render_size",
]

_NUMBER = r"\d+(?:\.\d+)?"
_DURATION_STEP = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_DURATION_STEP.pattern})+")
#: No quantity takes more characters to write.
_MOST_TEXT = 64
_LONGEST_MS = 10_000 * 366 * 86_400_000
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_SIZE = re.compile(rf"({_NUMBER})([kKMGT]?)(?:i?B)?")
_UNIT_BYTES = {"": 1, "k": 1 << 10, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.%]+)\]|([^\s:/@\[\]]*)):([0-9]{1,5})")


def parse_duration_ms(text: str) -> int:
    """
    Read a duration into milliseconds, rounded to the nearest.

    :param text: ``500ms``, ``2s``, ``1h``, ``7d``, sums such as ``1h30m``, or a bare number of seconds (``0.333``).
    :raises ConfigurationError: anything else, and so every negative number; what is longer than ten thousand years.
    """
    if len(text) > _MOST_TEXT:
        raise ConfigurationError(f"a text of {len(text)} characters is not a duration such as 2s, 500ms, 1h30m or 7d")
    if re.fullmatch(_NUMBER, text, re.ASCII):
        text += "s"
    if not re.fullmatch(_DURATION, text) or not text.isascii():
        raise ConfigurationError(f"{text!r} is not a duration such as 2s, 500ms, 1h30m or 7d")
    total = sum(Fraction(amount) * _UNIT_MS[unit] for amount, unit in _DURATION_STEP.findall(text))
    if total > _LONGEST_MS:
        raise ConfigurationError(f"{text!r} is longer than ten thousand years")
    return int(total + Fraction(1, 2))


def parse_duration_s(text: str) -> int:
    """
    Read a duration into whole seconds; as :func:`parse_duration_ms`.

    :raises ConfigurationError: also for a fraction of a second left over.
    """
    seconds, rest_ms = divmod(parse_duration_ms(text), 1000)
    if rest_ms:
        raise ConfigurationError(f"{text!r} is not a whole number of seconds")
    return seconds


def render_duration_ms(milliseconds: int) -> str:
    """Write a duration the way it is read: in the largest unit that leaves it whole."""
    for unit in ("h", "m", "s"):
        if milliseconds and milliseconds % _UNIT_MS[unit] == 0:
            return f"{milliseconds // _UNIT_MS[unit]}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def parse_size(text: str) -> int:
    """
    Read a size into bytes.

    :param text: ``64k``, ``10M``, ``2G``, ``1T`` (powers of 1024; ``KiB`` or ``MB`` mean the same), or bytes.
    :raises ConfigurationError: anything else, and what is not a whole number of bytes, or 2**63 and more.
    """
    match = _SIZE.fullmatch(text[:_MOST_TEXT])
    size = Fraction(match[1]) * _UNIT_BYTES[match[2]] if match and text.isascii() else Fraction(1, 2)
    if size % 1 or size >= 1 << 63:
        raise ConfigurationError(f"{text[:_MOST_TEXT]!r} is not a size such as 64k, 10M or 2G")
    return int(size)


def render_size(size: int) -> str:
    """Write a size the way it is read: in the largest unit that leaves it whole."""
    for unit in ("T", "G", "M", "k"):
        if size and size % _UNIT_BYTES[unit] == 0:
            return f"{size // _UNIT_BYTES[unit]}{unit}"
    return str(size)


def parse_bitrate(text: str) -> int:
    """
    Read a bit rate into bits a second.

    :param text: ``800k``, ``8M``, ``1G`` (powers of 1000), or bits.
    :raises ConfigurationError: anything else, and what is not a whole number of bits.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kMG]?)", text[:_MOST_TEXT])
    rate = Fraction(match[1]) * {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}[match[2]] if match else Fraction(1, 2)
    if rate % 1 or rate >= 1 << 63 or not text.isascii():
        raise ConfigurationError(f"{text[:_MOST_TEXT]!r} is not a bit rate such as 800k or 8M")
    return int(rate)


def render_bitrate(rate: int) -> str:
    """Write a bit rate the way it is read: in the largest unit that leaves it whole."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if rate and rate % size == 0:
            return f"{rate // size}{unit}"
    return str(rate)


def parse_address(text: str) -> tuple[str, int]:
    """
    Read ``:PORT``, ``HOST:PORT`` or ``[IPV6]:PORT`` into host (``""`` for all interfaces) and port.

    :raises ConfigurationError: anything else, or a port above 65535.
    """
    match = _ADDRESS.fullmatch(text)
    if not match or int(match[3]) > 65535:
        raise ConfigurationError(f"{text!r} is not an address such as :8080, 127.0.0.1:8080 or [::1]:8080")
    return match[1] or match[2] or "", int(match[3])


def address_endpoint(text: str) -> str:
    """
    Turn an address, as in :func:`parse_address`, into the description of a Twisted server endpoint.

    ``:8080`` becomes ``tcp:8080`` and ``127.0.0.1:8080`` becomes ``tcp:8080:interface=127.0.0.1``.
    """
    host, port = parse_address(text)
    if not host:
        return f"tcp:{port}"
    return f"{'tcp6' if ':' in host else 'tcp'}:{port}:interface={quoteStringArgument(host)}"
