"""The relays of streams: which there are, how the API adds and removes them, and how they outlive the server."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from prometheus_client import CollectorRegistry
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import NotFoundError
from rapidrtmp.interfaces import (
    AppRelays,
    BadRequestError,
    ConflictError,
    ContributionContext,
    Event,
    EventType,
    PushTarget,
    Request,
    Response,
    UnavailableError,
)
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.live.viewers import Viewers
from rapidrtmp.names import StreamName
from rapidrtmp.relay.http import RelayApi
from rapidrtmp.relay.openapi import relay_schemas
from rapidrtmp.relay.pulls import PullRelays
from rapidrtmp.relay.push import KeyClaims, PushParts
from rapidrtmp.relay.pushes import MOST_PER_STREAM, PushRelays
from rapidrtmp.relay.report import RelayMetrics
from rapidrtmp.rtmp.events import PublishRequested
from rapidrtmp.support.secret import Secret
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import make_sink_context
from tests.applications import FakeApplication
from tests.relay.servers import Network, Script

KEY = "secret-key-of-theirs-0123"


def check_against(schemas: dict[str, Any], name: str, value: Any) -> None:
    """Hold a value to a schema."""
    document = {"components": {"schemas": schemas}, "$ref": f"#/components/schemas/{name}"}
    Draft202012Validator(document).validate(value)


class Streams:
    """The streams of a server."""

    def __init__(self) -> None:
        self.live: dict[StreamName, LiveStream] = {}

    def find(self, name: StreamName) -> LiveStream | None:
        return self.live.get(name)


class PushesTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.network = Network()
        self.network.servers["one"] = self.network.servers["two"] = Script()
        self.app = FakeApplication()
        self.path = Path(self.mktemp()) / "relays.json"
        self.is_persistent = True
        self.streams = Streams()
        self.pulled: set[StreamName] = set()
        self.pushes = self.server()
        self.ids = 0

    def server(self) -> PushRelays:
        """One more process of the server."""
        clock = self.network.clock
        context = ContributionContext(
            apps={"live": self.app},
            streams=self.streams,  # type: ignore[arg-type]
            storage=lambda _purpose: None,  # type: ignore[arg-type,return-value]
            clock=clock,
            utc_ms=lambda: int(clock.seconds() * 1000),
            metrics=CollectorRegistry(),
            is_persistent=lambda _purpose: self.is_persistent,
        )
        parts = PushParts(self.network.outgoing, KeyClaims(), "me")
        pulled = self.pulled.__contains__
        pushes = PushRelays(context, parts, RelayMetrics(context.metrics), self.path, pulled)
        pushes.startService()
        self.api = RelayApi(pushes, PullRelays(context, parts, RelayMetrics(CollectorRegistry())))
        self.addCleanup(self.end_all)
        return pushes

    def publish(self, key: str = "cam") -> LiveStream:
        """A stream begins, with a picture."""
        name = StreamName("live", key)
        stream = LiveStream(
            name,
            Shelf(),
            Viewers(b""),
            started_at_ms=0,
            make_sink=lambda stream, _sink, factory, _recovered: factory.create(
                make_sink_context(stream=stream.name, clock=self.network.clock)
            ),
        )
        self.streams.live[name] = stream
        self.pushes.event_recorded(Event(1, 0, EventType.PUBLISH, name))
        source = FrameSource(make_video_track(), make_audio_track(id=2))
        stream.tracks_changed(source.tracks)
        for frame in source.take():
            stream.frame_received(frame)
        self.network.carry()
        return stream

    def end_all(self) -> None:
        for stream in self.streams.live.values():
            stream.finish()
        self.network.clock.advance(3)

    def ask(self, answer: Response | Deferred[Response]) -> Any:
        """The JSON that is answered."""
        response = self.successResultOf(answer) if isinstance(answer, Deferred) else answer
        return json.loads(response.body)

    def add(self, stream: str = "cam", **fields: Any) -> Any:
        said = {"url": "rtmp://one/app", "key": KEY, **fields}
        return self.ask(self.api.add(request(said), stream))

    def relays(self, key: str = "cam") -> list[Any]:
        listed = self.ask(self.api.index(request(), key))
        check_against(relay_schemas(), "RelayList", listed)
        relays: list[Any] = listed["relays"]
        return relays


def request(body: object = None) -> Request:
    return Request("POST", "", {}, "192.0.2.1", "192.0.2.1", json.dumps(body).encode())


class SettingsTests(PushesTestCase):
    def test_streams_are_chosen_by_a_pattern(self) -> None:
        """A relay of the settings is that of every stream whose name fits, from its beginning to its end."""
        self.app.relays = AppRelays(push=(PushTarget("rtmp://one/app/{key}", streams="cam*"),))
        stream = self.publish("cam1")
        self.publish("other")
        (server,) = self.network.connections
        self.assertEqual("cam1", server.of(PublishRequested)[0].key)
        self.assertEqual(["running"], [each["state"] for each in self.relays("cam1")])
        self.assertEqual([], self.relays("other"))
        stream.finish()
        self.network.carry()
        self.assertTrue(server.has_ended)
        self.assertEqual(["waiting"], [each["state"] for each in self.relays("cam1")])

    def test_other_settings_are_followed(self) -> None:
        """New settings end the relays that they no longer have, begin those that come, and leave the others alone."""
        kept, gone, comes = (PushTarget(f"rtmp://one/{each}", Secret(f"{each}-key-0123")) for each in "kgc")
        self.app.relays = AppRelays(push=(kept, gone))
        self.publish()
        self.app.relays = AppRelays(push=(kept, comes))
        self.pushes.follow()
        self.network.carry()
        self.assertEqual([False, True, False], [each.has_ended for each in self.network.connections])
        self.assertEqual(["k", "g", "c"], [each.address.app for each in self.network.connections])
        self.assertEqual(2, len(self.relays()))

    def test_returning_publisher_adds_nothing(self) -> None:
        """A publisher that returns to its stream finds the relays that it had."""
        self.app.relays = AppRelays(push=(PushTarget("rtmp://one/app", Secret(KEY)),))
        self.publish()
        self.pushes.event_recorded(Event(2, 0, EventType.PUBLISH, StreamName("live", "cam")))
        self.network.carry()
        self.assertEqual(1, len(self.network.connections))

    def test_settings_are_not_the_apis_to_change(self) -> None:
        """A relay of the settings is not removed by the API."""
        self.app.relays = AppRelays(push=(PushTarget("rtmp://one/app", Secret(KEY)),))
        self.publish()
        self.failureResultOf(self.api.remove(request(), "cam", "push-1"), ConflictError)


class EdgeTests(PushesTestCase):
    def test_publish_at_an_edge_is_pushed_on(self) -> None:
        """What is published at an edge goes to the first origin that takes it, under its own name."""
        self.app.relays = AppRelays(origins=("rtmp://down/live", "rtmp://two/live"))
        self.publish()
        self.network.wait(0.5)
        (server,) = self.network.connections
        self.assertEqual(("two", "cam"), (server.address.host, server.of(PublishRequested)[0].key))
        self.assertEqual(
            "rtmp://two/live", self.relays()[0]["url"] and self.pushes.of(StreamName("live", "cam"))[0].status.target
        )

    def test_what_comes_from_the_origin_stays(self) -> None:
        """What an edge has pulled from its origin is not pushed back there."""
        self.app.relays = AppRelays(origins=("rtmp://one/live",))
        self.pulled.add(StreamName("live", "cam"))
        self.publish()
        self.network.wait(0.5)
        self.assertEqual([], self.network.connections)


class ApiTests(PushesTestCase):
    def test_relay_is_added_to_a_live_stream(self) -> None:
        """A relay that is added to a live stream begins at once, and shows its key by the end alone."""
        self.publish()
        relay = self.add()
        check_against(relay_schemas(), "Relay", relay)
        self.network.carry()
        self.assertEqual("****0123", relay["key"])
        self.assertEqual(KEY, self.network.connections[0].of(PublishRequested)[0].key)
        self.assertEqual([(relay["id"], "running")], [(each["id"], each["state"]) for each in self.relays()])

    def test_relay_waits_for_its_stream(self) -> None:
        """A relay may be added before the stream is live, and begins with it, every time."""
        self.assertEqual("waiting", self.add()["state"])
        self.assertEqual([], self.network.connections)
        self.publish().finish()
        self.network.clock.advance(3)
        self.publish()
        self.assertEqual(2, len(self.network.connections))

    def test_relay_is_removed_cleanly(self) -> None:
        """A relay that is removed ends at once, and the other server hears of it; it is gone for good."""
        self.publish()
        relay = self.add()
        self.network.carry()
        self.ask(self.api.remove(request(), "cam", relay["id"]))
        self.network.carry()
        self.assertTrue(self.network.connections[0].has_ended)
        self.assertEqual([], self.relays())
        self.failureResultOf(self.api.remove(request(), "cam", relay["id"]), NotFoundError)
        self.assertEqual([], json.loads(self.path.read_text())["relays"])

    def test_relays_outlive_the_server(self) -> None:
        """What was added is there after a restart, from a file that its owner alone may read."""
        relay = self.add(ca="/etc/ca.pem")
        self.assertEqual(0o600, stat.S_IMODE(os.stat(self.path).st_mode))
        self.pushes = self.server()
        self.assertEqual([relay], self.relays())
        self.publish()
        self.assertEqual("/etc/ca.pem", self.network.connections[0].ca)
        self.assertEqual(KEY, self.network.connections[0].of(PublishRequested)[0].key)

    def test_processes_share_the_file(self) -> None:
        """Of several processes each knows what another has added or removed, and none loses what is another's."""
        first, other = self.pushes, self.server()
        mine = self.ask(RelayApi(first, self.api._pulls).add(request({"url": "rtmp://one/app", "key": KEY}), "cam"))
        self.pushes = other
        theirs = self.add(key="another-key-4567")
        self.assertEqual([mine["id"], theirs["id"]], [each["id"] for each in self.relays()])
        self.publish()
        self.assertEqual(2, len(self.network.connections))
        self.ask(RelayApi(first, self.api._pulls).remove(request(), "cam", theirs["id"]))
        self.assertEqual([mine["id"]], [each["id"] for each in self.relays()])
        self.network.carry()
        self.assertEqual([False, True], [each.has_ended for each in self.network.connections])

    def test_nothing_is_kept_beside_memory(self) -> None:
        """Where the storage is gone with the process, so are the relays."""
        self.is_persistent = False
        self.add()
        self.assertFalse(self.path.exists())

    def test_damaged_file_is_reported_and_left(self) -> None:
        """A file that holds something else is reported, and the server starts without it."""
        self.path.parent.mkdir()
        self.path.write_text("{")
        self.pushes = self.server()
        self.assertEqual([], self.relays())
        self.assertEqual("{", self.path.read_text())

    def test_relay_that_cannot_be_kept_is_none(self) -> None:
        """Where the file cannot be written nothing is added, and that is said."""
        self.path.parent.mkdir()
        self.path.mkdir()
        self.failureResultOf(self.api.add(request({"url": "rtmp://one/app", "key": KEY}), "cam"), UnavailableError)
        self.assertEqual([], self.relays())

    def test_nonsense_is_refused_unquoted(self) -> None:
        """Requests that make no sense are refused, without the key in the message."""
        for said in (
            {},
            {"url": 1},
            {"url": "http://one/app", "key": KEY},
            {"url": "rtmp://one", "key": KEY},
            {"url": f"rtmp://one/{KEY}"},
            {"url": "rtmp://one/app", "key": [KEY]},
            {"url": "rtmp://one/app", "key": KEY, "streams": "*"},
            {"url": "rtmp://one/app", "key": KEY * 200},
        ):
            try:
                refused = self.failureResultOf(self.api.add(request(said), "cam"), BadRequestError).value
            except BadRequestError as error:
                refused = error
            self.assertNotIn(KEY, str(refused))
        self.assertEqual([], self.relays())

    def test_relays_are_bounded_and_different(self) -> None:
        """A stream takes no relay twice, and no more than so many."""
        self.add()
        self.failureResultOf(self.api.add(request({"url": "rtmp://one/app", "key": KEY}), "cam"), ConflictError)
        for number in range(MOST_PER_STREAM - 1):
            self.add(key=f"{number}")
        self.failureResultOf(self.api.add(request({"url": "rtmp://one/app", "key": "more"}), "cam"), ConflictError)
