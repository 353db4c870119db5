"""What clients write in queries and JSON bodies, read and refused in the same words everywhere."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

from rapidrtmp.interfaces import BadRequestError, Request

__all__ = ["MAX_ITEMS_PER_PAGE", "read_date", "read_json_object", "read_query", "read_text", "read_whole", "rfc3339"]

MAX_ITEMS_PER_PAGE = 1000
MAX_QUERY_FIELDS = 100


def read_json_object(request: Request) -> dict[str, Any]:
    """The JSON object that is the body. :raises BadRequestError: it is something else."""
    try:
        value = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise BadRequestError("the body is not JSON") from error
    if not isinstance(value, dict):
        raise BadRequestError("the body is not a JSON object")
    return value


def read_text(fields: Mapping[str, Any], name: str) -> str:
    """A field that holds a string. :raises BadRequestError: it does not, or is not there."""
    value = fields.get(name)
    if not isinstance(value, str):
        raise BadRequestError(f"{name} is missing or not a string")
    return value


def read_query(request: Request) -> dict[str, str]:
    """The fields of the query, the last of each name. :raises BadRequestError: there are too many."""
    try:
        return dict(parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS))
    except ValueError as error:
        raise BadRequestError(f"the query has more than {MAX_QUERY_FIELDS} fields") from error


def read_whole(query: Mapping[str, str], name: str, default: int, *, minimum: int, maximum: int = 10**9) -> int:
    """A field that is a whole number. :raises BadRequestError: it is not, or out of bounds."""
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and minimum <= int(text) <= maximum):
        raise BadRequestError(f"{name} is not a whole number from {minimum} to {maximum}")
    return int(text)


def read_date(text: str, name: str) -> int:
    """
    A date (RFC 3339) in milliseconds since 1970; one without a zone is in UTC. A ``+`` may have become a space.

    :param name: of the field, for the message.
    :raises BadRequestError: it is no date.
    """
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise BadRequestError(f"{name} is not a date such as 2026-11-22T13:45:00Z") from error


def rfc3339(milliseconds: int) -> str:
    """A moment in milliseconds since 1970 as a date in UTC (RFC 3339)."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
