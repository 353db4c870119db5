"""
The description of the HTTP interface in OpenAPI 3.1, served at ``/api/v1/openapi.json``.

It is written by hand, as promises are; tests hold it to the routes there are and to what they really answer.
``HEAD`` goes with every ``GET`` and ``OPTIONS`` with every path, and neither is listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rapidrtmp import __version__
from rapidrtmp.live.stream import StreamState

__all__ = ["description"]

Json = dict[str, Any]

_REASONS = {
    400: "The request is wrong; the message names the field.",
    401: "A bearer token is needed, or the one given is wrong.",
    403: "Without an API token configured, only this machine is answered.",
    404: "There is no such thing here now. `Retry-After` says when to ask again, if that may help.",
    409: "The state of things does not permit it.",
    413: "The body is too long.",
    416: "The range lies outside the object.",
    429: "This client holds too many requests open.",
    503: "Not now: the wait was too long, or a limit is reached.",
}
_MANAGEMENT = (401, 403)
_MEDIA_FILES = {
    "application/vnd.apple.mpegurl": {"schema": {"type": "string"}},
    "video/mp4": {},
    "audio/mp4": {},
    "video/iso.segment": {},
}


def description() -> Json:
    """The whole document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RapidRTMP",
            "version": __version__,
            "description": 'Live streams in over RTMP, out over HLS. An error is always `{"error": "…"}`.',
        },
        "paths": {**_publishing(), **_streams(), **_server(), **_watching()},
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {
                "apiToken": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The API token, if one is configured; without one, only this machine is answered.",
                }
            },
        },
    }


# ── paths ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _operation(
    name: str, summary: str, answer: Json, errors: tuple[int, ...] = (), *, management: bool = False, **more: Any
) -> Json:
    """
    One operation.

    :param answer: the responses that are not errors, by status.
    """
    statuses = sorted({*errors, *(_MANAGEMENT if management else ())})
    failures = {str(status): _content(_REASONS[status], "Error") for status in statuses}
    operation: Json = {"operationId": name, "summary": summary, "responses": {**answer, **failures}, **more}
    if management:
        operation["security"] = [{}, {"apiToken": []}]
    return operation


def _content(words: str, schema: str) -> Json:
    return {"description": words, "content": {"application/json": {"schema": _ref(schema)}}}


def _media(words: str, content: Mapping[str, Any]) -> Json:
    return {"description": words, "content": dict(content)}


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}


def _in_path(*names: str) -> list[Json]:
    return [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]


def _in_query(name: str, words: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": words, "schema": schema}


def _publishing() -> Json:
    return {
        "/api/v1/publish": {
            "post": _operation(
                "publish",
                "Issue a token to publish a stream with",
                {"200": _content("Where to publish, and until when.", "PublishGrant")},
                (400, 404, 409, 413),
                management=True,
                requestBody={
                    "required": True,
                    "content": {"application/json": {"schema": _ref("PublishRequest")}},
                },
            )
        }
    }


def _streams() -> Json:
    listing = _operation(
        "listStreams",
        "List the streams, those that ended lately included",
        {"200": _content("The streams of this page, and how many there are on all pages.", "StreamList")},
        (400,),
        management=True,
        parameters=[
            _in_query("state", "Only streams in this state.", {"enum": [state.value for state in StreamState]}),
            _in_query("page", "Which page, from 0.", {"type": "integer", "minimum": 0, "default": 0}),
            _in_query(
                "itemsPerPage",
                "Streams on a page; 100 if only `page` is given, else all.",
                {"type": "integer", "minimum": 1, "maximum": 1000},
            ),
        ],
    )
    paths: Json = {"/api/v1/streams": {"get": listing}}
    for prefix, names, suffix in (("{key}", ("key",), ""), ("{app}/{key}", ("app", "key"), "OfApp")):
        words = "" if suffix else ", of the application `live`"
        paths[f"/api/v1/streams/{prefix}"] = {
            "get": _operation(
                f"getStream{suffix}",
                f"Describe one stream{words}",
                {"200": _content("The stream.", "Stream")},
                (400, 404),
                management=True,
                parameters=_in_path(*names),
            )
        }
        paths[f"/api/v1/streams/{prefix}/stop"] = {
            "post": _operation(
                f"stopStream{suffix}",
                f"End a stream and close its publisher{words}",
                {"200": _content("It has been stopped.", "Stopped")},
                (400, 404, 409, 413),
                management=True,
                parameters=_in_path(*names),
            )
        }
    return paths


def _server() -> Json:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/api/v1/openapi.json": {
            "get": _operation(
                "getDescription",
                "This description",
                {"200": _media("OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}})},
            )
        },
        "/api/ping": {"get": _operation("ping", "Answer", {"200": _content("An answer.", "Message")})},
        "/health": {
            "get": _operation("getHealth", "Whether the process lives", {"200": _content("It does.", "Health")})
        },
        "/ready": {
            "get": _operation(
                "getReadiness",
                "Whether to send clients here, with a reason per check",
                {"200": _content("Yes.", "Readiness"), "503": _content("No.", "Readiness")},
            )
        },
        "/metrics": {
            "get": _operation(
                "getMetrics",
                "Metrics for Prometheus; open to everybody if so configured",
                {"200": _media("The text exposition format.", text)},
                management=True,
            )
        },
    }


def _watching() -> Json:
    html = {"text/html": {"schema": {"type": "string"}}}
    return {
        "/": {"get": _operation("getIndexPage", "A page of what is live", {"200": _media("The page.", html)})},
        "/favicon.ico": {"get": _operation("getIcon", "Nothing", {"204": {"description": "No icon here."}})},
        "/static/{name}": {
            "get": _operation(
                "getStaticFile",
                "A file that the pages need",
                {
                    "200": _media("The file.", {"text/javascript": {}, "text/css": {}, "image/svg+xml": {}}),
                    "304": {"description": "The client has it."},
                },
                (404,),
                parameters=_in_path("name"),
            )
        },
        "/{app}/{key}": {
            "get": _operation(
                "getPlayerPage",
                "A page that plays the stream, or waits for it",
                {"200": _media("The page.", html)},
                (400, 404),
                parameters=_in_path("app", "key"),
            )
        },
        "/{app}/{key}/{name}": {"get": _playing()},
    }


def _playing() -> Json:
    number = {"type": "integer", "minimum": 0}
    return _operation(
        "getMedia",
        "A playlist (`index.m3u8`, `master.m3u8`), an init segment, a segment or a part",
        {
            "200": _media("All of it.", _MEDIA_FILES),
            "206": _media("The range asked for; never of a playlist.", _MEDIA_FILES),
            "304": {"description": "The client has it."},
        },
        (400, 404, 416, 429, 503),
        parameters=[
            *_in_path("app", "key", "name"),
            _in_query("_HLS_msn", "Hold the answer until the playlist contains this segment.", number),
            _in_query("_HLS_part", "Hold the answer until it contains this part of it.", number),
            _in_query("_HLS_skip", "A delta update will do.", {"enum": ["YES", "v2"]}),
        ],
    )


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _object(properties: Json, optional: tuple[str, ...] = ()) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _schemas() -> Json:
    text, truth, count = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
    moment = {"type": "string", "format": "date-time"}
    check = _object({"name": text, "ok": truth, "reason": text})
    return {
        "Error": _object({"error": {"type": "string", "minLength": 1}}),
        "Message": _object({"message": text}),
        "Health": _object({"status": {"const": "ok"}}),
        "Readiness": _object({"ready": truth, "checks": {"type": "array", "items": check}}),
        "PublishRequest": {
            "type": "object",
            "properties": {
                "streamKey": {"type": "string", "description": "The public name of the stream."},
                "app": {"type": "string", "default": "live"},
                "expiresIn": {
                    "description": "How long the token is valid: seconds, or a duration such as `1h`.",
                    "type": ["integer", "string", "null"],
                },
            },
            "required": ["streamKey"],
        },
        "PublishGrant": _object({"publishUrl": text, "streamKey": text, "token": text, "expiresAt": moment}),
        "Stopped": _object({"message": text, "streamKey": text}),
        "StreamList": _object({"streams": {"type": "array", "items": _ref("Stream")}, "total": count}),
        "Stream": _stream_schema(),
    }


def _stream_schema() -> Json:
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    maybe_text, maybe_count = {"type": ["string", "null"]}, {"type": ["integer", "null"], "minimum": 0}
    return _object(
        {
            "streamKey": text,
            "app": text,
            "active": {"type": "boolean", "description": "Whether a publisher is connected."},
            "state": {"enum": [state.value for state in StreamState]},
            "viewers": count,
            "startedAt": {"type": "string", "format": "date-time"},
            "duration": {"type": "number", "minimum": 0, "description": "Seconds since it started, or that it lasted."},
            "videoCodec": {**maybe_text, "description": "As in RFC 6381."},
            "audioCodec": {**maybe_text, "description": "As in RFC 6381."},
            "resolution": {"type": ["string", "null"], "pattern": "^[0-9]+x[0-9]+$"},
            "bitrate": {**count, "description": "Received lately, in bit/s."},
            "frameRate": {"type": "number", "minimum": 0, "description": "Video frames a second, measured lately."},
            "audioSampleRate": maybe_count,
            "audioChannels": maybe_count,
            "keyframes": count,
            "frames": count,
            "bytesReceived": count,
            "discontinuities": count,
            "sinks": {"type": "array", "items": text},
            "playbackUrl": text,
            "pageUrl": text,
            "peer": {**maybe_text, "description": "The publisher's address."},
            "metadata": {"type": "object", "description": "What the encoder says of itself; not relied on."},
        }
    )
