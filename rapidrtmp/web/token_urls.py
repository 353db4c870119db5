"""
Tokens of viewers in URLs: ``?token=`` is led to ``/APP/KEY/~TOKEN/…``, where all that playlists name carries it along.

Playlists name everything relative to themselves. So the bytes of playlists and media are the same for all viewers, and
a cache that leaves the token out of its keys holds each of them once.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

from rapidrtmp.http.params import MAX_QUERY_FIELDS
from rapidrtmp.interfaces import BadRequestError, Request, Response

__all__ = ["PARAMETER", "token_redirect"]

PARAMETER = "token"


def token_redirect(request: Request, rule: str, names: Mapping[str, str]) -> Response | None:
    """
    Where a request leads whose token is in its query; ``None`` if there is none.

    :param rule: of its route, which has an ``<app>`` and a ``<key>``.
    :param names: what varied in its path.
    :raises BadRequestError: the query has too many fields.
    """
    if f"{PARAMETER}=" not in request.query:
        return None
    try:
        fields = parse_qsl(request.query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise BadRequestError(f"the query has more than {MAX_QUERY_FIELDS} fields") from error
    tokens = [value for name, value in fields if name == PARAMETER]
    if not tokens or not tokens[-1]:
        return None
    query = urlencode([(name, value) for name, value in fields if name != PARAMETER])
    path = _path(rule, names, f"~{quote(tokens[-1], safe='~')}", is_token_in_path=request.is_token_in_path)
    return Response(307, {"Location": f"{path}?{query}" if query else path, "Cache-Control": "no-store"})


def _path(rule: str, names: Mapping[str, str], element: str, *, is_token_in_path: bool) -> str:
    """The path with a token behind the stream's key, relative to the one that was asked for."""
    below = rule.partition("<key>")[2].removeprefix("/~<token>")
    if below == ".m3u8":
        return f"{names['key']}/{element}/index.m3u8"
    if not below:
        return f"{element}/" if is_token_in_path else f"{names['key']}/{element}/"
    filled = below.removeprefix("/")
    for name, value in names.items():
        filled = filled.replace(f"<{name}>", quote(value, safe="~"))
    return "../" * (below.count("/") - 1 + is_token_in_path) + f"{element}/{filled}"
