"""How the API describes events (OpenAPI 3.1)."""

from __future__ import annotations

from rapidrtmp.http.openapi_parts import Json, in_query, media, object_of, operation
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
    return {"/api/v1/events": {"get": listed}}


def event_schemas() -> Json:
    """The components."""
    return {
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
        )
    }
