"""Events as JSON has them, and which of them a client wants."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from rapidrtmp.http.params import rfc3339
from rapidrtmp.interfaces import BadRequestError, Event, EventType
from rapidrtmp.names import DEFAULT_APP

__all__ = ["EventFilter", "describe_event", "render_event"]


def describe_event(event: Event) -> dict[str, Any]:
    """One event, as the API and hooks tell it."""
    stream = event.stream
    return {
        "id": event.id,
        "time": rfc3339(event.time_ms),
        "type": event.type.value,
        "app": stream.app if stream is not None else None,
        "stream": stream.key if stream is not None else None,
        "peer": event.peer or None,
        "data": event.data,
    }


def render_event(event: Event) -> str:
    """One event as JSON; what a plugin has put into it that JSON cannot say is left out."""
    said = describe_event(event)
    try:
        return _dumps(said)
    except (TypeError, ValueError, RecursionError):
        return _dumps({**said, "data": {}})


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """
    Which events are wanted.

    :ivar types: ``None`` for all.
    :ivar streams: a pattern that ``APP/KEY`` must match, ``*`` standing for anything; ``""`` for all events, also those
        of no stream.
    """

    types: frozenset[EventType] | None = None
    streams: str = ""

    @classmethod
    def of_texts(cls, types: str, pattern: str) -> EventFilter:
        """
        What ``?type=publish,unpublish&stream=live/cam-*`` means; a pattern without a slash is of keys of ``live``.

        :raises BadRequestError: there is no such type.
        """
        names = [name for name in types.split(",") if name]
        known = [each.value for each in EventType]
        for name in names:
            if name not in known:
                raise BadRequestError(f"type {name[:40]!r} is none of {', '.join(known)}")
        if pattern and "/" not in pattern:
            pattern = f"{DEFAULT_APP}/{pattern}"
        return cls(frozenset(map(EventType, names)) if names else None, pattern)

    def wants(self, event: Event) -> bool:
        """Whether this one is."""
        if self.types is not None and event.type not in self.types:
            return False
        return not self.streams or (event.stream is not None and fnmatchcase(str(event.stream), self.streams))
