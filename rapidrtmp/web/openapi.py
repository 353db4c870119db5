"""
The description of the HTTP interface in OpenAPI 3.1, served at ``/api/v1/openapi.json``.

It is written by hand, as promises are; tests hold it to the routes there are and to what they really answer.
``HEAD`` goes with every ``GET`` and ``OPTIONS`` with every path, and neither is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

from rapidrtmp import __version__
from rapidrtmp.http.openapi_parts import (
    INCOMPLETE,
    MEDIA_FILES,
    Json,
    content,
    error_schema,
    in_path,
    in_query,
    media,
    object_of,
    operation,
    ref,
)
from rapidrtmp.http.openapi_values import APP, KEY, PAGE, lifetime, moment_or
from rapidrtmp.interfaces import Contribution
from rapidrtmp.live.fan_out import SinkState
from rapidrtmp.live.health import FindingKind
from rapidrtmp.live.stream import StreamState
from rapidrtmp.timeline.health import PublishHealth
from rapidrtmp.web.console.pages import CODE_PATTERN
from rapidrtmp.web.description import camel_case
from rapidrtmp.web.grants import MAX_PLAYERS, MAX_REVOCABLE_LENGTH
from rapidrtmp.web.policy import TokenLimits

__all__ = ["description"]

MAX_EXPIRATION_S = TokenLimits().max_expiration_s


def description(max_expiration_s: int = MAX_EXPIRATION_S, contributions: Sequence[Contribution] = ()) -> Json:
    """
    The whole document.

    :param contributions: what plugins bring, described as they have it; where two have the same, the first one's holds.
    :param max_expiration_s: the longest that a token may be valid, in seconds.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "RapidRTMP",
            "version": __version__,
            "description": 'Live streams in over RTMP, out over HLS. An error is always `{"error": "…"}`.',
        },
        "paths": {
            **_tokens(),
            **_streams(),
            **{path: operations for each in reversed(contributions) for path, operations in each.paths.items()},
            **_server(),
            **_watching(),
        },
        "components": {
            "schemas": {
                **_schemas(max_expiration_s),
                "Stream": _stream_schema(contributions),
                **{name: schema for each in reversed(contributions) for name, schema in each.schemas.items()},
            },
            "securitySchemes": {
                "managementSecret": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The management secret, or a token to manage with; the server's own user, on the "
                    "same machine, needs none.",
                }
            },
        },
    }


# ── paths ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _tokens() -> Json:
    def issuing(
        name: str, summary: str, answer: str, asked: str, errors: tuple[int, ...] = (400, 404, 409, 413)
    ) -> Json:
        body = {"required": True, "content": {"application/json": {"schema": ref(asked)}}}
        answers = {"200": content(summary, answer)}
        return {"post": operation(name, summary, answers, errors, management=True, requestBody=body)}

    return {
        "/api/v1/publish": issuing(
            "publish", "Issue a token to publish a stream with", "PublishGrant", "PublishRequest"
        ),
        "/api/v1/play": issuing("play", "Issue a token to watch a stream with", "PlayGrant", "PlayRequest"),
        "/api/v1/tokens/revoke": issuing(
            "revokeTokens",
            "Revoke a token, or all of a stream that were issued up to now; sessions that use them end",
            "Revoked",
            "Revocation",
            (400, 404, 413, 503),
        ),
    }


def _streams() -> Json:
    listing = operation(
        "listStreams",
        "List the streams, those that ended lately included",
        {"200": content("The streams of this page, and how many there are on all pages.", "StreamList")},
        (400,),
        management=True,
        parameters=[
            in_query("state", "Only streams in this state.", {"enum": [state.value for state in StreamState]}),
            in_query("node", "Only streams of the process that answers.", {"enum": ["self"]}),
            in_query("page", "Which page, from 0.", PAGE),
            in_query(
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
            "get": operation(
                f"getStream{suffix}",
                f"Describe one stream{words}",
                {"200": content("The stream.", "Stream")},
                (400, 404, 405) if "app" in names else (400, 404),
                management=True,
                parameters=in_path(*names),
            )
        }
        paths[f"/api/v1/streams/{prefix}/history"] = {
            "get": operation(
                f"getHistory{suffix}",
                f"What the stream did in the last ten minutes{words}",
                {"200": content("Some points.", "History")},
                (400, 404),
                management=True,
                parameters=in_path(*names),
            )
        }
        paths[f"/api/v1/streams/{prefix}/poster.mp4"] = {
            "get": operation(
                f"getStreamPoster{suffix}",
                f"The newest keyframe of the stream, as a film of one picture{words}",
                {"200": media("The picture.", {"video/mp4": {}})},
                (400, 404),
                management=True,
                parameters=in_path(*names),
            )
        }
        paths[f"/api/v1/streams/{prefix}/stop"] = {
            "post": operation(
                f"stopStream{suffix}",
                f"End a stream and close its publisher{words}",
                {"200": content("It has been stopped.", "Stopped")},
                (400, 404, 409, 413, 503),
                management=True,
                parameters=in_path(*names),
                requestBody={"required": False, "content": {"application/json": {"schema": ref("Stop")}}},
            )
        }
    return paths


def _server() -> Json:
    text = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "/api/v1/openapi.json": {
            "get": operation(
                "getDescription",
                "This description",
                {"200": media("OpenAPI 3.1.", {"application/json": {"schema": {"type": "object"}}})},
            )
        },
        "/api/ping": {"get": operation("ping", "Answer", {"200": content("An answer.", "Message")})},
        "/health": {"get": operation("getHealth", "Whether the process lives", {"200": content("It does.", "Health")})},
        "/ready": {
            "get": operation(
                "getReadiness",
                "Whether to send clients here, with a reason per check",
                {"200": content("Yes.", "Readiness"), "503": content("No.", "Readiness")},
            )
        },
        "/startup": {
            "get": operation(
                "getStartup",
                "Whether the server has come up",
                {"200": content("It has.", "Startup"), "503": content("Not yet.", "Startup")},
            )
        },
        "/metrics": {
            "get": operation(
                "getMetrics",
                "Metrics for Prometheus; open to every client if so configured, and at the door of the management API",
                {"200": media("The text exposition format.", text)},
                management=True,
            )
        },
    }


def _watching() -> Json:
    html = {"text/html": {"schema": {"type": "string"}}}
    return {
        "/": {"get": operation("getIndexPage", "A page of what is live", {"200": media("The page.", html)})},
        "/obs": {
            "get": operation(
                "getObsPage",
                "A page that writes the configuration of OBS's multitrack output",
                {"200": media("The page.", html)},
            )
        },
        "/embed/{app}/{key}": {
            "get": operation(
                "getEmbeddedPlayer",
                "The player alone, for a frame in another page",
                {
                    "200": media("The page.", html),
                    "307": {"description": "With `?token=`, where it belongs."},
                },
                (400, 404),
                parameters=[
                    *in_path("app", "key"),
                    *(
                        in_query(name, words, {"enum": ["0", "1"]})
                        for name, words in (
                            ("controls", "Whether it has controls; 1 if it is not given."),
                            ("muted", "Whether it begins without sound; as its user last had it if it is not given."),
                            ("autoplay", "Whether it begins by itself; 1 if it is not given."),
                        )
                    ),
                ],
            )
        },
        "/embed/{app}/{key}/": {"get": _redirect("redirectToEmbed", "Leads to the player alone", "app", "key")},
        "/embed/{app}/{key}/~{token}/": {
            "get": operation(
                "getEmbeddedPlayerWithToken",
                "The player alone for a viewer who needs a token",
                {"200": media("The page.", html)},
                (400, 401, 403, 404, 503),
                parameters=in_path("app", "key", "token"),
            )
        },
        **{
            f"/{{app}}/{{key}}{below}/viewers.json": {
                "get": operation(
                    f"getViewers{suffix}",
                    "How many watch the stream",
                    {
                        "200": content("So many.", "ViewerCount"),
                        "307": {"description": "With `?token=`, where it belongs."},
                    },
                    (400, 401, 403, 404, 503),
                    parameters=in_path("app", "key", *names),
                )
            }
            for below, suffix, names in (("", "", ()), ("/~{token}", "WithToken", ("token",)))
        },
        **{
            f"/{{app}}/{{key}}{below}/poster.mp4": {
                "get": operation(
                    f"getPoster{suffix}",
                    "The newest keyframe of the stream, as a film of one picture",
                    {
                        "200": media("The picture.", {"video/mp4": {}}),
                        "307": {"description": "With `?token=`, where it belongs."},
                    },
                    (400, 401, 403, 404, 503),
                    parameters=in_path("app", "key", *names),
                )
            }
            for below, suffix, names in (("", "", ()), ("/~{token}", "WithToken", ("token",)))
        },
        **_console(),
        "/favicon.ico": {"get": operation("getIcon", "Nothing", {"204": {"description": "No icon here."}})},
        "/static/{name}": {
            "get": operation(
                "getStaticFile",
                "A file that the pages need",
                {
                    "200": media("The file.", {"text/javascript": {}, "text/css": {}, "image/svg+xml": {}}),
                    "304": {"description": "The client has it."},
                },
                (404,),
                parameters=in_path("name"),
            )
        },
        "/{app}/{key}": {
            "get": operation(
                "getPlayerPage",
                "A page that plays the stream, or waits for it",
                {
                    "200": media("The page.", html),
                    "307": {
                        "description": "The playlist, if the key ends in `.m3u8`; with `?token=` where it belongs."
                    },
                },
                (400, 401, 403, 404, 503),
                parameters=in_path("app", "key"),
            )
        },
        "/{app}/{key}/~{token}": {"get": _redirect("redirectToTokenPage", "Leads to the page", "app", "key", "token")},
        "/{app}/{key}/~{token}/": {
            "get": operation(
                "getPlayerPageWithToken",
                "The page for a viewer who needs a token",
                {"200": media("The page.", html)},
                (400, 401, 403, 404, 503),
                parameters=in_path("app", "key", "token"),
            )
        },
        "/{app}/{key}/": {"get": _redirect("redirectToPage", "Leads to the player's page", "app", "key")},
        "/{app}/{key}.m3u8": {"get": _redirect("redirectToPlaylist", "Leads to the playlist", "app", "key")},
        "/{app}/{key}/{name}": {"get": _playing("getMedia", "app", "key", "name")},
        "/{app}/{key}/~{token}/{name}": {"get": _playing("getMediaWithToken", "app", "key", "token", "name")},
        "/{app}/{key}/{rendition}/{name}": {"get": _choosing("getMediaOfRendition", "app", "key", "rendition", "name")},
        "/{app}/{key}/~{token}/{rendition}/{name}": {
            "get": _choosing("getMediaOfRenditionWithToken", "app", "key", "token", "rendition", "name")
        },
    }


def _console() -> Json:
    html = {"text/html": {"schema": {"type": "string"}}}
    back = {"303": {"description": "To the console."}}
    form = {"required": True, "content": {"application/x-www-form-urlencoded": {"schema": {"type": "object"}}}}
    refused = {str(status): media("The page to log in at, which says why.", html) for status in (401, 403, 429)}
    page = operation("getConsole", "The console, or the page to log in at", {"200": media("The page.", html)})
    files: Json = {"text/javascript": {}, "text/css": {}, "image/svg+xml": {}}
    code = operation(
        "drawCode",
        "A text as a QR code",
        {"200": media("The code.", {"image/svg+xml": {}})},
        (400, 413),
        management=True,
        requestBody={"required": True, "content": {"application/json": {"schema": ref("CodeRequest")}}},
    )
    return {
        "/console": {"get": page},
        "/console/static/{name}": {
            "get": operation(
                "getConsoleFile",
                "A file that the console needs",
                {"200": media("The file.", files), "304": {"description": "The client has it."}},
                (404,),
                parameters=in_path("name"),
            )
        },
        "/console/login": {
            "post": operation("logIn", "Begin a session of the console", {**back, **refused}, (413,), requestBody=form)
        },
        "/console/logout": {"post": operation("logOut", "End it", back, (403, 413), requestBody=form)},
        "/console/code": {"post": code},
    }


def _redirect(name: str, words: str, *names: str) -> Json:
    answers = {"307": {"description": "It is there; the query goes with it."}}
    return operation(name, words, answers, (400,), parameters=in_path(*names))


def _playing(operation_id: str, *names: str) -> Json:
    return operation(
        operation_id,
        "A playlist (`index.m3u8`, `master.m3u8`; with a rewind window also `dvr.m3u8`), an init segment, a segment or "
        "a part; with a rewind window also a stretch of it (`clip.m3u8`, `clip.mp4`). Playlists take the delivery "
        "directives of low-latency HLS (`_HLS_msn`, `_HLS_part`, `_HLS_skip`: RFC 8216 bis, 6.2.5), which only mean "
        "something together and beside the playlist that was answered last",
        {
            "200": media("All of it.", MEDIA_FILES),
            "206": media("The range asked for; never of a playlist.", MEDIA_FILES),
            "304": {"description": "The client has it."},
            "307": {"description": "With `?token=`, where a token is needed: the token belongs in the path."},
        },
        (400, 401, 403, 404, 409, 416, 429, 503),
        parameters=[
            *in_path(*names),
            in_query("from", "Where a clip begins: a date, or how long before the live edge.", moment_or("-")),
            in_query("to", "Where a clip ends, likewise.", moment_or("-")),
        ],
    )


def _choosing(operation_id: str, *names: str) -> Json:
    return operation(
        operation_id,
        "The playlist (`index.m3u8`), an init segment, a segment or a part of one audio track, or of the video alone, "
        "of a stream with several audio tracks: what `master.m3u8` offers then. Playlists take delivery directives",
        {
            "200": media("All of it.", MEDIA_FILES),
            "206": media("The range asked for; never of a playlist.", MEDIA_FILES),
            "304": {"description": "The client has it."},
        },
        (400, 404, 416, 429, 503),
        parameters=in_path(*names),
    )


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _schemas(max_expiration_s: int) -> Json:
    text, truth, count = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
    moment = {"type": "string", "format": "date-time"}
    check = object_of({"name": text, "ok": truth, "reason": text})
    return {
        "Error": error_schema(),
        "Message": object_of({"message": text}),
        "CodeRequest": object_of({"text": {**text, "pattern": CODE_PATTERN}}),
        "History": object_of(
            {
                "stepMs": count,
                **{
                    name: {"type": "array", "items": {"type": "number", "minimum": 0}, "description": words}
                    for name, words in (
                        ("ages", "How many milliseconds ago each point was, the oldest first."),
                        ("bitrate", "In bits a second."),
                        ("frameRate", "Of the leading video."),
                        ("viewers", "How many watched."),
                        ("lateMs", "How much later media came than the earliest, and so did parts."),
                    )
                },
            }
        ),
        "ViewerCount": object_of({"viewers": count}),
        "Health": object_of({"status": {"const": "ok"}}),
        "Startup": object_of({"status": {"enum": ["starting", "started"]}}),
        "Readiness": object_of({"ready": truth, "checks": {"type": "array", "items": check}}),
        "PublishRequest": _grant_request(max_expiration_s),
        "PlayRequest": _grant_request(
            max_expiration_s,
            maxPlayers={
                "description": "How many players may use the token at one time.",
                "anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_PLAYERS}, {"type": "null"}],
            },
        ),
        "PlayGrant": object_of(
            {
                "token": {**text, "description": "A secret; empty where watching is open."},
                "watchUrl": {**text, "description": "The page that plays the stream, with the token."},
                "playlistUrl": {**text, "description": "What other players play, with the token."},
                "flvUrl": {
                    **text,
                    "description": "The same as FLV, with the token; `ws` for `http` is WebSocket.",
                },
                "rtmpUrl": {**text, "description": "The same stream over RTMP, with the token."},
                "streamKey": text,
                "expiresAt": moment,
            }
        ),
        "Revocation": {
            "anyOf": [
                object_of({"token": {**text, "pattern": "^[!-~]+$", "maxLength": MAX_REVOCABLE_LENGTH}}),
                object_of({"streamKey": KEY, "app": {**APP, "default": "live"}}, ("app",)),
            ]
        },
        "Revoked": object_of({"revoked": {**text, "description": "The stream, or `token`."}}),
        "Stop": {
            "type": "object",
            "properties": {"revoke": {**truth, "default": False, "description": "Keep its publisher's token out."}},
        },
        "PublishGrant": object_of(
            {
                "publishUrl": {**text, "description": "What FFmpeg publishes to."},
                "server": {**text, "description": "The same in the two fields of OBS: Server, …"},
                "key": {**text, "description": "… and Stream Key. A secret."},
                "watchUrl": {**text, "description": "The page that plays the stream."},
                "streamKey": text,
                "token": text,
                "expiresAt": moment,
            }
        ),
        "Stopped": object_of({"message": text, "streamKey": text}),
        "StreamList": object_of(
            {
                "streams": {"type": "array", "items": ref("Stream")},
                "total": count,
                "incomplete": INCOMPLETE,
            },
            ("incomplete",),
        ),
    }


def _grant_request(max_expiration_s: int, **more: Json) -> Json:
    """What a token is asked for with."""
    return {
        "type": "object",
        "properties": {
            "streamKey": {**KEY, "description": "The public name of the stream."},
            "app": {**APP, "default": "live"},
            "expiresIn": lifetime(max_expiration_s),
            "streams": {
                "description": "A pattern of streams, such as `camera-*` or `*`, that the token is for instead; "
                "`streamKey` is one of them.",
                "anyOf": [{"type": "string", "pattern": "^[*]$"}, {"type": "null"}],
            },
            "network": {
                "description": "The only addresses that the token is for: `192.0.2.7`, `10.0.0.0/8`, `2001:db8::/32`.",
                "anyOf": [
                    {"type": "string", "pattern": r"^[1-9][0-9]?(\.[1-9][0-9]?){3}(/([89]|[12][0-9]|3[0-2]))?$"},
                    {"type": "null"},
                ],
            },
            "singleUse": {
                "description": "For one session, which can be resumed within this time; `true` for half a minute.",
                "anyOf": [{"type": "boolean"}, lifetime(86_400)],
            },
            **more,
        },
        "required": ["streamKey"],
    }


def _rung_schema() -> Json:
    count = {"type": "integer", "minimum": 0}
    lag = {**count, "description": "From the arrival of its newest picture until that was back, in milliseconds."}
    return object_of(
        {
            "name": {"type": "string"},
            "state": {"enum": ["starting", "running", "behind", "off"]},
            "codec": {"type": "string", "description": "As in RFC 6381; empty before its first picture."},
            "width": count,
            "height": count,
            "bitrate": {**count, "description": "Of its pictures lately, in bit/s."},
            "frames": count,
            "lagMs": lag,
            "gaps": {**count, "description": "Segments that were not there in time."},
            "restarts": count,
        }
    )


def _sink_schema() -> dict[str, object]:
    cost = {
        "type": "number",
        "minimum": 0,
        "description": "Of the server's thread, over the last second.",
    }
    state = {"type": "string", "enum": [state.value for state in SinkState]}
    return {
        "type": "object",
        "properties": {"name": {"type": "string"}, "msPerFrame": cost, "state": state},
        "required": ["name", "msPerFrame", "state"],
    }


def _health_schema() -> Json:
    finding = object_of({"kind": {"enum": [kind.value for kind in FindingKind]}, "advice": {"type": "string"}})
    numbers = {camel_case(each.name): {"type": ["integer", "boolean"]} for each in fields(PublishHealth)}
    return {
        "type": "object",
        "description": "How the publish goes: what is wrong, with advice, and the numbers once they are known.",
        "properties": {
            "verdict": {"enum": ["good", "attention", "unknown"]},
            "findings": {"type": "array", "items": finding},
            **numbers,
        },
        "required": ["verdict", "findings"],
        "additionalProperties": False,
    }


def _track_schema() -> Json:
    text, number = {"type": "string"}, {"type": "number", "minimum": 0}
    count = {"type": "integer", "minimum": 0}
    shared = {
        "id": count,
        "codec": {**text, "description": "As in RFC 6381."},
        "codecName": text,
        "language": {**text, "description": "As in ISO 639-2; und if unknown."},
        "name": text,
    }
    interval = {**number, "description": "Seconds between the last two keyframes; 0 until there were two."}
    video = {"kind": {"const": "video"}, "width": count, "height": count, "frameRate": number}
    audio = {"kind": {"const": "audio"}, "sampleRate": count, "channels": count}
    return {"oneOf": [object_of({**shared, **video, "keyframeInterval": interval}), object_of({**shared, **audio})]}


def _stream_schema(contributions: Sequence[Contribution]) -> Json:
    """What is said of a stream, and what plugins say besides."""
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    maybe_text, maybe_count = {"type": ["string", "null"]}, {"type": ["integer", "null"], "minimum": 0}
    return object_of(
        {
            "streamKey": text,
            "app": text,
            "active": {"type": "boolean", "description": "Whether a publisher is connected."},
            "state": {"enum": [state.value for state in StreamState]},
            "viewers": count,
            "players": {
                "type": "object",
                "description": "Those of them that play over RTMP, or FLV over HTTP or WebSocket.",
                "required": ["rtmp", "http", "websocket"],
                "properties": {"rtmp": count, "http": count, "websocket": count},
            },
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
            "tracks": {"type": "array", "items": _track_schema(), "description": "Video first, the leading one."},
            "renditions": {"type": "array", "items": _rung_schema(), "description": "The rungs of its ladder."},
            "sinks": {"type": "array", "items": _sink_schema()},
            "playbackUrl": text,
            "pageUrl": text,
            "peer": {**maybe_text, "description": "The publisher's address."},
            "health": _health_schema(),
            "metadata": {"type": "object", "description": "What the encoder says of itself; not relied on."},
            **{name: schema for each in reversed(contributions) for name, schema in each.stream_schema.items()},
        }
    )
