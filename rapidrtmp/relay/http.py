"""Relays in the API: ``/api/v1/streams/KEY/relays``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred

from rapidrtmp.errors import NotFoundError
from rapidrtmp.http.params import read_json_object, read_text
from rapidrtmp.interfaces import BadRequestError, PushTarget, Request, Response, json_response
from rapidrtmp.names import DEFAULT_APP, StreamName
from rapidrtmp.relay.pull import PullRelay
from rapidrtmp.relay.pulls import PullRelays
from rapidrtmp.relay.pushes import PushRelay, PushRelays
from rapidrtmp.support.secret import Secret

__all__ = ["RelayApi"]

_FIELDS = ("url", "key", "rendition", "ca")
MOST_CHARACTERS = 2_048


class RelayApi:
    """Answers what is asked of relays."""

    def __init__(self, pushes: PushRelays, pulls: PullRelays) -> None:
        self._pushes = pushes
        self._pulls = pulls

    def describe(self, name: StreamName) -> Mapping[str, object]:
        """What is said of them where the stream is described."""
        return {"relays": [relay.describe() for relay in self._of(name)]}

    def index(self, _request: Request, key: str, app: str = DEFAULT_APP) -> Response:
        """List the relays of a stream: ``GET …/relays``."""
        relays = [relay.describe() for relay in self._of(StreamName.checked(app, key))]
        return json_response({"relays": relays, "total": len(relays)})

    def _of(self, name: StreamName) -> list[PushRelay | PullRelay]:
        return [*self._pushes.of(name), *self._pulls.of(name)]

    def add(self, request: Request, key: str, app: str = DEFAULT_APP) -> Deferred[Response]:
        """
        Add a relay: ``POST …/relays``.

        :raises BadNameError: there can be no such stream.
        :raises BadRequestError: it makes no sense.
        """
        name = StreamName.checked(app, key)
        target = _read_target(read_json_object(request))

        async def answer() -> Response:
            relay = await self._pushes.add(name, target)
            return json_response(relay.describe(), 201)

        return Deferred.fromCoroutine(answer())

    def remove(self, _request: Request, key: str, id: str, app: str = DEFAULT_APP) -> Deferred[Response]:
        """Remove a relay: ``DELETE …/relays/ID``."""
        name = StreamName.checked(app, key)

        async def answer() -> Response:
            if not await self._pushes.remove(name, id):
                raise NotFoundError(f"{name} has no relay {id}")
            return json_response({"message": f"{name} has the relay {id} no more"})

        return Deferred.fromCoroutine(answer())


def _read_target(fields: dict[str, Any]) -> PushTarget:
    unknown = [name for name in fields if name not in _FIELDS]
    if unknown:
        raise BadRequestError(f"there is no field {unknown[0][:64]!r}: known are {', '.join(_FIELDS)}")
    said: dict[str, Any] = {name: read_text(fields, name) for name in _FIELDS if fields.get(name) is not None}
    read_text(said, "url")
    if any(len(text) > MOST_CHARACTERS for text in said.values()):
        raise BadRequestError(f"a field is longer than {MOST_CHARACTERS} characters")
    return PushTarget(**{**said, "key": Secret(said.get("key", ""))})
