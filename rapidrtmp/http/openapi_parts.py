"""What descriptions of operations are made of (OpenAPI 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rapidrtmp.http.openapi_values import APP, FILE_NAME, KEY, START
from rapidrtmp.names import RENDITION_PATTERN

__all__ = [
    "MEDIA_FILES",
    "REASONS",
    "Json",
    "content",
    "error_schema",
    "in_path",
    "in_query",
    "media",
    "object_of",
    "operation",
    "ref",
]

Json = dict[str, Any]

#: What each status of a refusal means.
REASONS = {
    400: "The request is wrong; the message names the field.",
    401: "The management secret, or a viewer's token, is needed, or the one given is wrong or has expired.",
    403: "The API does not answer pages of other origins; or the token is for something else.",
    404: "There is no such thing here now. `Retry-After` says when to ask again, if that may help.",
    405: "The path is that of an action.",
    409: "The state of things does not permit it.",
    413: "The body is too long.",
    416: "The range lies outside the object.",
    429: "This client asks for too much at a time, or sent too many wrong secrets.",
    503: "Not now: the wait was too long, a limit is reached, or a token cannot be checked.",
}
_MANAGEMENT = (401, 403, 429, 503)
MEDIA_FILES = {
    "application/vnd.apple.mpegurl": {"schema": {"type": "string"}},
    "video/mp4": {},
    "audio/mp4": {},
    "video/iso.segment": {},
}


def operation(
    name: str, summary: str, answer: Json, errors: tuple[int, ...] = (), *, management: bool = False, **more: Any
) -> Json:
    """
    One operation.

    :param answer: the responses that are not errors, by status.
    """
    statuses = sorted({*errors, *(_MANAGEMENT if management else ())})
    failures = {str(status): content(REASONS[status], "Error") for status in statuses}
    described: Json = {"operationId": name, "summary": summary, "responses": {**answer, **failures}, **more}
    if management:
        described["security"] = [{"managementSecret": []}, {}]
    return described


def content(words: str, schema: str) -> Json:
    """An answer in JSON."""
    return {"description": words, "content": {"application/json": {"schema": ref(schema)}}}


def error_schema() -> Json:
    """What every refusal holds."""
    moment = {"type": "string", "format": "date-time"}
    spans = {
        "description": "Of a clip that cannot be one file: from when to when it can be had as one each.",
        "type": "array",
        "items": object_of({"from": moment, "to": moment}),
    }
    return object_of({"error": {"type": "string", "minLength": 1}, "spans": spans}, ("spans",))


def media(words: str, types: Mapping[str, Any]) -> Json:
    """An answer of one of several media types."""
    return {"description": words, "content": dict(types)}


def ref(schema: str) -> Json:
    """A schema by name."""
    return {"$ref": f"#/components/schemas/{schema}"}


#: Of an answer for several processes of a server.
INCOMPLETE = {
    "type": "array",
    "items": {"type": "string"},
    "description": "The processes of the server that did not answer, if there are any: theirs is missing.",
}
TOKEN = {"type": "string", "pattern": "^[A-Za-z0-9._~-]{1,512}$"}
RENDITION = {"type": "string", "pattern": f"^{RENDITION_PATTERN}$"}
_IN_PATHS = {"app": APP, "key": KEY, "token": TOKEN, "start": START, "name": FILE_NAME, "rendition": RENDITION}


def in_path(*names: str, **schemas: Json) -> list[Json]:
    """What varies in a path; with ``schemas`` for what is not as it is elsewhere."""
    known = {**{name: _IN_PATHS[name] for name in names}, **schemas}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name, schema in known.items()]


def in_query(name: str, words: str, schema: Json, *, required: bool = False) -> Json:
    """A field of the query."""
    return {"name": name, "in": "query", "description": words, "required": required, "schema": schema}


def object_of(properties: Json, optional: tuple[str, ...] = ()) -> Json:
    """An object of just these properties, all of them there but the ``optional`` ones."""
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }
