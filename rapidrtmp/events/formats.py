"""Events in the words of other servers, so that what listens to those need not be changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import urlencode

from rapidrtmp.events.values import render_event
from rapidrtmp.interfaces import Event, EventType

__all__ = ["FORMATS", "Body", "Format", "json_body"]

#: What nginx-rtmp and SRS call what happens here. They know no more than that; other events keep their names.
_NGINX_RTMP = {
    EventType.PUBLISH: "publish",
    EventType.UNPUBLISH: "publish_done",
    EventType.PLAY: "play",
    EventType.STOP: "play_done",
    EventType.RECORDING_DONE: "record_done",
}
_SRS = {
    EventType.PUBLISH: "on_publish",
    EventType.UNPUBLISH: "on_unpublish",
    EventType.PLAY: "on_play",
    EventType.STOP: "on_stop",
    EventType.RECORDING_DONE: "on_dvr",
}
_JSON = "application/json"


class Body(NamedTuple):
    """The body of a request, and its media type."""

    content_type: str
    data: bytes


class Format(NamedTuple):
    """
    One form of what is sent.

    :ivar types: what is sent where the settings do not say; ``None`` for everything.
    :ivar render: an event as it is sent.
    :ivar needs_zero: whether the answer must be ``0``, or have ``code`` 0, if it has a body that says one.
    """

    types: frozenset[EventType] | None
    render: Callable[[Event], Body]
    needs_zero: bool = False


def json_body(event: Event) -> Body:
    """An event as the API tells it."""
    return Body(_JSON, render_event(event).encode("utf-8", "replace"))


def _nginx_rtmp_body(event: Event) -> Body:
    """The fields of its ``on_publish`` and the like, as a form."""
    fields = {
        "call": _NGINX_RTMP.get(event.type, event.type.value),
        "app": event.stream.app if event.stream else "",
        "name": event.stream.key if event.stream else "",
        "addr": event.peer,
        "clientid": _client_of(event),
        "flashver": str(event.data.get("client", "")),
        "tcurl": "",
        "swfurl": "",
        "pageurl": "",
    }
    if event.type is EventType.PUBLISH:
        fields["type"] = "live"
    if event.type is EventType.RECORDING_DONE:
        fields |= {"recorder": "record", "path": str(event.data.get("movieUrl", ""))}
    return Body("application/x-www-form-urlencoded", urlencode(fields).encode())


def _srs_body(event: Event) -> Body:
    """The fields of its ``http_hooks``, as JSON."""
    app, name = (event.stream.app, event.stream.key) if event.stream else ("", "")
    fields: dict[str, object] = {
        "server_id": "rapidrtmp",
        "action": _SRS.get(event.type, f"on_{event.type.value}"),
        "client_id": _client_of(event),
        "ip": event.peer,
        "vhost": "__defaultVhost__",
        "app": app,
        "tcUrl": "",
        "stream": name,
        "param": "",
        "stream_url": f"/{app}/{name}" if event.stream else "",
        "stream_id": f"{app}/{name}" if event.stream else "",
    }
    if event.type is EventType.PLAY:
        fields["pageUrl"] = ""
    if event.type is EventType.RECORDING_DONE:
        fields |= {"cwd": "", "file": event.data.get("movieUrl", "")}
    return Body(_JSON, json.dumps(fields, ensure_ascii=False).encode())


def _client_of(event: Event) -> str:
    """The same for what one client does: its coming and its going."""
    return str(event.data.get("session") or event.data.get("viewer") or event.id)


FORMATS: Mapping[str, Format] = {
    "json": Format(None, json_body),
    "nginx-rtmp": Format(frozenset(_NGINX_RTMP), _nginx_rtmp_body),
    "srs": Format(frozenset(_SRS), _srs_body, needs_zero=True),
}
