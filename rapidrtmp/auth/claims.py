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

#: The action of the management API.
MANAGE = "manage"
#: The pattern of every stream.
EVERYTHING = "*/*"

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

    :ivar is_for_all: whether it is for every stream: it says so, or does not speak of streams at all.
    :ivar subject: whom it was issued to; ``""`` if it does not say.
    :ivar expires_s: seconds since 1970; ``None`` if it does not say. Likewise ``not_before_s`` and ``issued_s``.
    """

    actions: frozenset[str]
    streams: Sequence[str]
    is_for_all: bool
    subject: str
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

    def manage_mismatch(self, stream: StreamName | None) -> str:
        """Why it is not to manage a stream with, or the whole server; ``""`` if it is."""
        if MANAGE not in self.actions:
            return "the token is not to manage with"
        if self.is_for_all:
            return ""
        if stream is None:
            return "the token is for some streams only, and this is about the whole server"
        return "" if any(matches(pattern, stream) for pattern in self.streams) else "the token is for another stream"


def read_claims(claims: Mapping[str, Any], names: ClaimNames) -> Claims:
    """Read the claims of a token that was verified. :raises ValueError: a time is none."""
    expires_s, not_before_s, issued_s = (_time(claims, name) for name in ("exp", "nbf", "iat"))
    streams = _patterns(_texts(claims.get(names.streams))[:MAX_PATTERNS])
    subject = claims.get("sub")
    return Claims(
        frozenset(_texts(claims.get(names.actions))),
        streams,
        names.streams not in claims or EVERYTHING in streams,
        subject if isinstance(subject, str) else "",
        expires_s,
        not_before_s,
        issued_s,
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
