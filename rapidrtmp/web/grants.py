"""What is asked of the API when it is to issue a token: a stream, a lifetime, and terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rapidrtmp.auth.patterns import check_network, check_pattern, matches
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.http.params import read_json_object, read_text
from rapidrtmp.interfaces import Action, BadRequestError, Request, TokenTerms
from rapidrtmp.names import DEFAULT_APP, StreamName
from rapidrtmp.support.units import parse_duration_s
from rapidrtmp.web.policy import TokenLimits

__all__ = ["MAX_PLAYERS", "MAX_REVOCABLE_LENGTH", "GrantRequest", "read_grant_request", "read_stream"]

#: How long a session may be resumed, where a token is for one and nothing else is asked for; and at most.
DEFAULT_RECONNECT_S, MAX_RECONNECT_S = 30, 86_400
MAX_PLAYERS = 65_535
#: Tokens of others are longer than ours; JWTs with many claims, for example.
MAX_REVOCABLE_LENGTH = 8192


@dataclass(frozen=True, slots=True)
class GrantRequest:
    """
    A token that is asked for.

    :ivar stream: the one that it is for, or one of them.
    :ivar lifetime_s: how long it shall be valid, in seconds.
    """

    stream: StreamName
    lifetime_s: int
    terms: TokenTerms


def read_stream(fields: Mapping[str, Any]) -> StreamName:
    """
    The stream that a body names.

    :raises BadRequestError: it does not.
    :raises BadNameError: the stream key or application cannot be one.
    """
    key = read_text(fields, "streamKey")
    return StreamName.checked(read_text(fields, "app") if "app" in fields else DEFAULT_APP, key)


def read_grant_request(request: Request, action: Action, limits: TokenLimits) -> GrantRequest:
    """
    What a body asks for.

    :raises BadRequestError: it is not as described; the message names the field.
    :raises BadNameError: the stream key or application cannot be one.
    """
    fields = read_json_object(request)
    stream = read_stream(fields)
    terms = TokenTerms(
        action,
        streams=_pattern(fields, stream),
        network=_network(fields),
        reconnect_s=_reconnect_s(fields),
        max_players=_max_players(fields) if action is Action.PLAY else 0,
    )
    return GrantRequest(stream, _lifetime_s(fields, limits), terms)


def _pattern(fields: Mapping[str, Any], stream: StreamName) -> str:
    if fields.get("streams") is None:
        return ""
    text = read_text(fields, "streams")
    try:
        pattern = check_pattern(text if "/" in text else f"{stream.app}/{text}")
    except ConfigurationError as error:
        raise BadRequestError(f"streams: {error}") from error
    if not matches(pattern, stream):
        raise BadRequestError("streams: streamKey is none of them")
    return pattern


def _network(fields: Mapping[str, Any]) -> str:
    if fields.get("network") is None:
        return ""
    try:
        return check_network(read_text(fields, "network"))
    except ConfigurationError as error:
        raise BadRequestError(f"network: {error}") from error


def _reconnect_s(fields: Mapping[str, Any]) -> int | None:
    value = fields.get("singleUse")
    if value is None or value is False:
        return None
    seconds = DEFAULT_RECONNECT_S if value is True else _seconds("singleUse", value)
    if not 0 <= seconds <= MAX_RECONNECT_S:
        raise BadRequestError(f"singleUse: a session can be resumed for {MAX_RECONNECT_S} seconds at most")
    return seconds


def _max_players(fields: Mapping[str, Any]) -> int:
    value = fields.get("maxPlayers")
    if value is None:
        return 0
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_PLAYERS:
        raise BadRequestError(f"maxPlayers is not a whole number from 1 to {MAX_PLAYERS}")
    return value


def _lifetime_s(fields: Mapping[str, Any], limits: TokenLimits) -> int:
    maximum = limits.max_expiration_s
    value = fields.get("expiresIn")
    if value is None:
        return min(limits.default_expiration_s, maximum)
    seconds = _seconds("expiresIn", value)
    if seconds < 1:
        raise BadRequestError("expiresIn is less than a second")
    if seconds > maximum:
        raise BadRequestError(f"expiresIn is too long: the longest allowed is {maximum} seconds")
    return seconds


def _seconds(name: str, value: object) -> int:
    """A duration: whole seconds, or text such as ``1h``."""
    if isinstance(value, float) and value.is_integer():  # in JSON 60.0 is the integer 60
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise BadRequestError(f"{name} is neither a whole number of seconds nor a duration such as 1h")
    try:
        return parse_duration_s(value) if isinstance(value, str) else value
    except ConfigurationError as error:
        raise BadRequestError(f"{name}: {error}") from error
