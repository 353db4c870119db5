"""The part of the description that is about recordings."""

from __future__ import annotations

from rapidrtmp.http.openapi_parts import MEDIA_FILES, Json, content, in_path, in_query, media, object_of, operation, ref
from rapidrtmp.http.openapi_values import APP, CLIP_NAME, KEY, MOMENT, PAGE, START, moment_or
from rapidrtmp.recording.catalogue import RecordingState
from rapidrtmp.recording.titles import MOST_BYTES

__all__ = ["recording_paths", "recording_schemas"]

_NAMES = ("app", "key", "start")


def recording_paths() -> Json:
    """The operations, by path."""
    one = "/api/v1/recordings/{app}/{key}/{start}"
    return {
        "/api/v1/streams/{key}/record": {"post": _record("", ", of the application `live`", "key")},
        "/api/v1/streams/{app}/{key}/record": {"post": _record("OfApp", "", "app", "key")},
        "/api/v1/recordings": {"get": _list()},
        one: {"get": _show(), "delete": _delete()},
        "/recordings": {"get": _page()},
        f"{one}/protect": {"post": _protect()},
        f"{one}/title": {"post": _rename()},
        "/recordings/{app}/{key}/{start}/{name}": {"get": _play()},
        "/recordings/{app}/{key}/~{token}/{start}/{name}": {"get": _play("WithToken", "token")},
        "/recordings/{app}/{key}/{start}/{rendition}/{name}": {"get": _play_rendition()},
        "/recordings/{app}/{key}/~{token}/{start}/{rendition}/{name}": {"get": _play_rendition("WithToken", "token")},
        "/recordings/{app}/{key}/{name}": {"get": _play_by_time()},
        "/recordings/{app}/{key}/~{token}/{name}": {"get": _play_by_time("WithToken", "token")},
    }


def _page() -> Json:
    return operation(
        "getRecordingsPage",
        "A page of recordings, to be watched and downloaded",
        {"200": media("The page.", {"text/html": {"schema": {"type": "string"}}})},
        (400, 503),
        parameters=[in_query("page", "Which page, from 0.", PAGE)],
    )


def _body(schema: str) -> Json:
    return {"required": True, "content": {"application/json": {"schema": ref(schema)}}}


def _record(suffix: str, words: str, *names: str) -> Json:
    return operation(
        f"recordStream{suffix}",
        f"Begin or end to record a live stream{words}",
        {"200": content("It is recorded now, or no more.", "RecordAnswer")},
        (400, 404, 409, 413),
        management=True,
        parameters=in_path(*names),
        requestBody=_body("RecordRequest"),
    )


def _list() -> Json:
    return operation(
        "listRecordings",
        "List recordings, the newest first",
        {"200": content("The recordings of this page, and how many there are on all pages.", "RecordingList")},
        (400, 503),
        management=True,
        parameters=[
            in_query("app", "Only of this application.", APP),
            in_query("streamKey", "Only of this stream; of `live` if no application is given.", KEY),
            in_query("from", "Only what began then or later.", MOMENT),
            in_query("to", "Only what began before.", MOMENT),
            in_query("q", "Only what has this in its title, name or day.", {"type": "string"}),
            in_query("page", "Which page, from 0.", PAGE),
            in_query("itemsPerPage", "On a page.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        ],
    )


def _show() -> Json:
    return operation(
        "getRecording",
        "Describe one recording",
        {"200": content("The recording.", "Recording")},
        (404, 503),
        management=True,
        parameters=in_path(*_NAMES),
    )


def _delete() -> Json:
    return operation(
        "deleteRecording",
        "Delete a recording that is over and not protected",
        {"200": content("It is gone.", "Deleted")},
        (404, 409, 503),
        management=True,
        parameters=in_path(*_NAMES),
    )


def _protect() -> Json:
    return operation(
        "protectRecording",
        "Protect a recording from deletion, or release it",
        {"200": content("The recording as it is now.", "Recording")},
        (400, 404, 413, 503),
        management=True,
        parameters=in_path(*_NAMES),
        requestBody=_body("ProtectRequest"),
    )


def _rename() -> Json:
    return operation(
        "renameRecording",
        "Give a recording a title, or take it away",
        {"200": content("The recording as it is now.", "Recording")},
        (400, 404, 413, 503),
        management=True,
        parameters=in_path(*_NAMES),
        requestBody=_body("TitleRequest"),
    )


_ANSWERS: Json = {
    "200": media("All of it.", MEDIA_FILES),
    "206": media("The range asked for; never of a playlist.", MEDIA_FILES),
    "304": {"description": "The client has it."},
    "307": {"description": "With `?token=`, where a token is needed: the token belongs in the path."},
}
_CLIP_LIMITS = (
    in_query("from", "Where a clip begins: a date, or how long after the beginning.", moment_or("")),
    in_query("to", "Where a clip ends, likewise.", moment_or("")),
)


def _play(suffix: str = "", *names: str) -> Json:
    return operation(
        f"getRecordingMedia{suffix}",
        "The playlist of a recording (`index.m3u8`) and what it names, that of all of its renditions (`master.m3u8`), "
        "all of it as one file (`recording.mp4`), or a stretch of it (`clip.m3u8`, `clip.mp4`)",
        _ANSWERS,
        (400, 401, 403, 404, 416, 503),
        parameters=[*in_path(*_NAMES, *names, "name"), *_CLIP_LIMITS],
    )


def _play_rendition(suffix: str = "", *names: str) -> Json:
    return operation(
        f"getRecordedRendition{suffix}",
        "As `/recordings/{app}/{key}/{start}/{name}`, of one of the renditions that `master.m3u8` names besides",
        _ANSWERS,
        (400, 401, 403, 404, 416, 503),
        parameters=[*in_path(*_NAMES, *names, "rendition", "name"), *_CLIP_LIMITS],
    )


def _play_by_time(suffix: str = "", *names: str) -> Json:
    return operation(
        f"getRecordedClip{suffix}",
        "A stretch of what was recorded of a stream (`clip.m3u8`, `clip.mp4`), whichever recordings it lies in",
        {
            "200": media("All of it.", MEDIA_FILES),
            "206": media("The range asked for; never of a playlist.", MEDIA_FILES),
            "304": {"description": "The client has it."},
            "307": {"description": "With `?token=`, where a token is needed: the token belongs in the path."},
        },
        (400, 401, 403, 404, 409, 416, 503),
        parameters=[
            *in_path("app", "key", *names, name=CLIP_NAME),
            in_query("from", "Where it begins.", MOMENT, required=True),
            in_query("to", "Where it ends.", MOMENT, required=True),
        ],
    )


def recording_schemas() -> Json:
    """The schemas, by name."""
    text, truth, count = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
    moment, maybe_text = {"type": "string", "format": "date-time"}, {"type": ["string", "null"]}
    return {
        "RecordRequest": object_of({"action": {"enum": ["start", "stop"]}}),
        "RecordAnswer": object_of({"recording": truth, "streamKey": text}),
        "TitleRequest": object_of(
            {
                "title": {
                    **text,
                    "maxLength": MOST_BYTES,
                    "description": f"At most {MOST_BYTES} bytes of UTF-8; empty for none.",
                }
            }
        ),
        "ProtectRequest": object_of({"protected": truth}),
        "Deleted": object_of({"message": text, "size": {**count, "description": "In bytes."}}),
        "RecordingList": object_of({"recordings": {"type": "array", "items": ref("Recording")}, "total": count}),
        "Recording": object_of(
            {
                "app": text,
                "streamKey": text,
                "start": {**START, "description": "Its name."},
                "title": {**text, "description": "What people call it; empty if it has no title."},
                "state": {"enum": [state.value for state in RecordingState]},
                "protected": truth,
                "startedAt": moment,
                "endedAt": {"type": ["string", "null"], "format": "date-time"},
                "duration": {"type": "number", "minimum": 0, "description": "In seconds, gaps included."},
                "size": {**count, "description": "In bytes."},
                "segments": count,
                "gaps": {**count, "description": "Segments that cannot be played."},
                "videoCodec": {**maybe_text, "description": "As in RFC 6381."},
                "audioCodec": {**maybe_text, "description": "As in RFC 6381."},
                "resolution": {"type": ["string", "null"], "pattern": "^[0-9]+x[0-9]+$"},
                "renditions": {
                    "type": "array",
                    "items": text,
                    "description": "Its other renditions: rungs of the ladder, sizes that the publisher sent besides.",
                },
                "playlistUrl": text,
                "masterUrl": {**text, "description": "The playlist of all renditions."},
                "movieUrl": text,
            }
        ),
    }
