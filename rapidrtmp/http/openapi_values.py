"""The values that requests may hold, as schemas: tight enough that what fits them is never answered with 400."""

from __future__ import annotations

from typing import Any

from rapidrtmp.names import MAX_NAME_LENGTH, NAME_PATTERN, RESERVED_APPS

__all__ = ["APP", "CLIP_NAME", "FILE_NAME", "KEY", "MOMENT", "PAGE", "START", "lifetime", "moment_or"]

Json = dict[str, Any]

_DAY = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
#: Of dates in requests; a leap day is a date too, and left out here.
_MOMENT = f"[12][0-9]{{3}}-{_DAY}T{_TIME}"
_AMOUNT = "(0|[1-9][0-9]{0,5})"

KEY: Json = {"type": "string", "pattern": f"^{NAME_PATTERN}$", "minLength": 1, "maxLength": MAX_NAME_LENGTH}
APP: Json = {**KEY, "not": {"enum": sorted(RESERVED_APPS)}}
FILE_NAME: Json = {"type": "string", "pattern": "^[A-Za-z0-9_-][A-Za-z0-9._-]*$", "maxLength": 255}
CLIP_NAME: Json = {"type": "string", "enum": ["clip.m3u8", "clip.mp4"]}
START: Json = {"type": "string", "pattern": "^[0-9]{8}T[0-9]{6}Z$"}
MOMENT: Json = {"type": "string", "format": "date-time", "pattern": f"^{_MOMENT}$"}
PAGE: Json = {"type": "integer", "minimum": 0, "maximum": 10**9, "default": 0}


def moment_or(sign: str) -> Json:
    """
    A date, or a time from somewhere.

    :param sign: in front of such a time.
    """
    examples = ["2026-11-22T13:45:00Z", f"{sign}90s"]
    return {"type": "string", "pattern": f"^({_MOMENT}|{sign}{_AMOUNT}(ms|s|m|h|d))$", "examples": examples}


def lifetime(maximum_s: int) -> Json:
    """How long something is valid: whole seconds, a duration, or ``null`` for the default; ``maximum_s`` at most."""
    units = (("s?", 1), ("m", 60), ("h", 3600), ("d", 86400))
    durations = [f"{_up_to(maximum_s // size)}{unit}" for unit, size in units if maximum_s >= size]
    return {
        "description": "How long the token is valid: seconds, or a duration such as `1h` (sums such as `1h30m` are "
        "understood as well).",
        "anyOf": [
            {"type": "integer", "minimum": 1, "maximum": maximum_s},
            {"type": "string", "pattern": f"^({'|'.join(durations)})$"},
            {"type": "null"},
        ],
    }


def _up_to(maximum: int) -> str:
    """A pattern of the whole numbers from 1 to ``maximum``, without leading zeros."""
    digits = str(maximum)
    shorter = [f"[1-9][0-9]{{0,{len(digits) - 2}}}"] if len(digits) > 1 else []
    smaller = []
    for at, digit in enumerate(map(int, digits)):
        lowest = 0 if at else 1
        if digit > lowest:
            smaller.append(f"{digits[:at]}[{lowest}-{digit - 1}][0-9]{{{len(digits) - at - 1}}}")
    return f"({'|'.join([*shorter, *smaller, digits])})"
