"""How the API describes events (OpenAPI 3.1)."""

from __future__ import annotations

from rapidrtmp.http.openapi_parts import Json, content, in_query, media, object_of, operation, ref
from rapidrtmp.interfaces import EventType

__all__ = ["event_paths", "event_schemas"]

_TYPES = "|".join(each.value for each in EventType)


def event_paths() -> Json:
    """The operations, by path."""
    stream: Json = {"200": media("Server-sent events, as they happen; without an end.", {"text/event-stream": {}})}
    parameters = [
        in_query(
            "type", "Types, with commas between.", {"type": "string", "pattern": f"^(({_TYPES})(,({_TYPES}))*)?$"}
        ),
        in_query(
            "stream", "Which streams: `KEY`, or `APP/KEY`; `*` is anything.", {"type": "string", "maxLength": 200}
        ),
        in_query("lastEventId", "As the header `Last-Event-ID`.", {"type": "string", "pattern": "^[0-9]{1,18}$"}),
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the last event that the client has seen: those after it come first.",
            "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
        },
    ]
    listed = operation(
        "followEvents", "Follow what happens", stream, (400, 503), management=True, parameters=parameters
    )
    hooks = operation(
        "listHooks",
        "How hooks do, and what could not be delivered",
        {"200": content("Every hook, and the last dead letters of each.", "HookList")},
        management=True,
    )
    return {"/api/v1/events": {"get": listed}, "/api/v1/hooks": {"get": hooks}}


def event_schemas() -> Json:
    """The components."""
    count = {"type": "integer", "minimum": 0}
    types = {"type": "array", "items": {"type": "string", "enum": [each.value for each in EventType]}}
    return {
        "HookList": object_of(
            {
                "hooks": {"type": "array", "items": ref("Hook")},
                "deadLetters": {"type": "array", "items": ref("DeadLetter")},
            }
        ),
        "Hook": object_of(
            {
                "hook": {"type": "integer", "minimum": 1, "description": "Its place in the configuration."},
                "kind": {"type": "string", "enum": ["webhook", "exec"]},
                "target": {"type": "string", "description": "The URL without its query, or the program."},
                "format": {"type": "string", "enum": ["json", "nginx-rtmp", "srs"]},
                "events": {**types, "description": "Those that were chosen; empty if none were."},
                "waiting": count,
                "delivered": count,
                "retried": count,
                "deadLetters": {**count, "description": "Events that were given up."},
                "lastError": {"type": ["string", "null"]},
            }
        ),
        "DeadLetter": object_of(
            {
                "hook": {"type": "integer", "minimum": 1},
                "event": ref("Event"),
                "attempts": count,
                "error": {"type": "string"},
                "time": {"type": "string", "format": "date-time"},
            }
        ),
        "Event": object_of(
            {
                "id": {"type": "integer", "minimum": 0, "description": "Rises with each event, over restarts too."},
                "time": {"type": "string", "format": "date-time"},
                "type": {"type": "string", "enum": [each.value for each in EventType]},
                "app": {"type": ["string", "null"]},
                "stream": {"type": ["string", "null"]},
                "peer": {"type": ["string", "null"]},
                "data": {"type": "object"},
            }
        ),
    }
