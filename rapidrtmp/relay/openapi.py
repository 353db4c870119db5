"""The part of the description that is about relays."""

from __future__ import annotations

from rapidrtmp.http.openapi_parts import Json, content, in_path, object_of, operation, ref
from rapidrtmp.relay.report import RelayState

__all__ = ["relay_paths", "relay_schemas"]

_ID: Json = {"type": "string", "pattern": "^[0-9a-z-]{1,32}$"}
_URL: Json = {
    "type": "string",
    "pattern": "^rtmps?://[a-z][a-z0-9]{0,30}(:[1-9][0-9]{0,3})?/[A-Za-z0-9_-]{1,64}$",
    "description": "Up to the application; paths, queries and other hosts are understood as well. `{key}` stands for "
    "the stream's name.",
    "examples": ["rtmps://a.rtmps.youtube.com/live2"],
}
_KEY: Json = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{1,128}$",
    "description": "What is published there: a secret, never shown again. A query is understood as well.",
}


def relay_paths() -> Json:
    """The operations, by path."""
    paths: Json = {}
    for suffix, where, *names in (
        ("", "/api/v1/streams/{key}", "key"),
        ("OfApp", "/api/v1/streams/{app}/{key}", "app", "key"),
    ):
        path = in_path(*names)
        paths[f"{where}/relays"] = {
            "get": operation(
                f"listRelays{suffix}",
                "List the relays of a stream, be it live or not",
                {
                    "200": content(
                        "Those of the settings, those that were added, and the pull that it comes by.", "RelayList"
                    )
                },
                (404,),
                management=True,
                parameters=path,
            ),
            "post": operation(
                f"addRelay{suffix}",
                "Push a stream to another server, now and whenever it is live",
                {"201": content("The relay.", "Relay")},
                (400, 404, 409, 413, 503),
                management=True,
                parameters=path,
                requestBody={"required": True, "content": {"application/json": {"schema": ref("RelayRequest")}}},
            ),
        }
        paths[f"{where}/relays/{{id}}"] = {
            "delete": operation(
                f"removeRelay{suffix}",
                "End a relay that was added, and forget it",
                {"200": content("It is gone.", "RelayGone")},
                (404, 409, 503),
                management=True,
                parameters=in_path(*names, id=_ID),
            )
        }
    return paths


def relay_schemas() -> Json:
    """The schemas, by name."""
    text, count = {"type": "string"}, {"type": "integer", "minimum": 0}
    maybe_text = {"type": ["string", "null"]}
    return {
        "RelayRequest": object_of(
            {
                "url": _URL,
                "key": _KEY,
                "rendition": {"type": "string", "pattern": "^[a-z0-9]{1,16}$", "description": "Instead of the source."},
                "ca": {
                    "type": "string",
                    "pattern": "^/[a-z0-9/._-]{1,64}$",
                    "description": "A file with certificates.",
                },
            },
            ("rendition", "ca"),
        ),
        "Relay": object_of(
            {
                "id": _ID,
                "direction": {"enum": ["push", "pull"]},
                "url": text,
                "key": {**text, "description": "Its last four characters behind asterisks; of a short one none."},
                "rendition": maybe_text,
                "ca": maybe_text,
                "state": {"enum": [state.value for state in RelayState]},
                "reason": {**text, "description": "Why it is in that state, if it is in trouble."},
                "isConfigured": {"type": "boolean", "description": "Whether the settings have it, and not the API."},
                "reconnects": count,
                "bitrate": {**count, "description": "In bits a second, over the last seconds."},
                "since": {**text, "format": "date-time", "description": "Since when it is in that state."},
            }
        ),
        "RelayList": object_of({"relays": {"type": "array", "items": ref("Relay")}, "total": count}),
        "RelayGone": object_of({"message": text}),
    }
