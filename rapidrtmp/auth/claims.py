"""What a JSON Web Token says of whom it lets in: actions, patterns of streams, and a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rapidrtmp.auth.patterns import check_pattern, matches
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import Action
from rapidrtmp.names import StreamName

__all__ = ["ClaimNames", "Claims", "read_claims"]

#: So many patterns are looked at.
MAX_PATTERNS = 256


@dataclass(frozen=True, slots=True)
class ClaimNames:
    """
    What the claims are called.

    :ivar actions: of the claim that names actions: a list, or text with spaces between; likewise ``streams``.
    """

    actions: str = "actions"
    streams: str = "streams"


@dataclass(frozen=True, slots=True)
class Claims:
    """
    What a token says.

    :ivar expires_s: seconds since 1970; ``None`` if it does not say. Likewise ``not_before_s`` and ``issued_s``.
    """

    actions: frozenset[str]
    streams: Sequence[str]
    expires_s: float | None
    not_before_s: float | None
    issued_s: float | None

    def mismatch(self, action: Action, stream: StreamName) -> str:
        """Why it is not for something; ``""`` if it is."""
        if action.value not in self.actions:
            return f"the token is not to {action} with"
        if not any(matches(pattern, stream) for pattern in self.streams):
            return "the token is for another stream"
        return ""


def read_claims(claims: Mapping[str, Any], names: ClaimNames) -> Claims:
    """Read the claims of a token that was verified. :raises ValueError: a time is none."""
    return Claims(
        frozenset(_texts(claims.get(names.actions))),
        _patterns(_texts(claims.get(names.streams))[:MAX_PATTERNS]),
        *(_time(claims, name) for name in ("exp", "nbf", "iat")),
    )


def _texts(value: object) -> list[str]:
    if isinstance(value, str):
        return value.split()
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []


def _patterns(texts: Sequence[str]) -> Sequence[str]:
    """Those that are patterns; another one matches nothing."""
    found = []
    for text in texts:
        try:
            found.append(check_pattern(text))
        except ConfigurationError:
            continue
    return found


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 253_402_300_800:
        raise ValueError(f"{name} is not a time")
    return float(value)
