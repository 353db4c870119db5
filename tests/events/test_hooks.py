"""Hooks of a whole server, delivered to another one and to commands."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import sys
import time
from base64 import b64encode
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.events import delivery
from rapidrtmp.events.command import command_environment
from rapidrtmp.interfaces import EventType, Outcome
from rapidrtmp.names import StreamName
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import HookSettings, Settings
from rapidrtmp.web.abuse import Abuse
from tests.net.edge import media
from tests.serving import ServerCase, loopback_settings

NAME = StreamName("live", "k")


class Backend(Resource):
    """
    Takes what it is sent, and answers as it is set: a status and a body, or not at all.

    :ivar asked: the header fields and bodies.
    """

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[dict[str, str], bytes]] = []
        self.connections: set[Any] = set()
        self.answers: list[tuple[int, bytes] | None] = []
        self.location = b""
        self._waiting: list[tuple[int, Deferred[None]]] = []

    def render_POST(self, request: Any) -> Any:
        headers = {name.decode(): values[0].decode() for name, values in request.requestHeaders.getAllRawHeaders()}
        self.asked.append((headers, request.content.read()))
        self.connections.add(request.channel)
        for count, each in [pair for pair in self._waiting if pair[0] <= len(self.asked)]:
            self._waiting.remove((count, each))
            each.callback(None)
        answer = self.answers.pop(0) if self.answers else (200, b"")
        if answer is None:
            return NOT_DONE_YET
        request.setResponseCode(answer[0])
        if self.location:
            request.setHeader(b"location", self.location)
        return answer[1]

    def wait(self, count: int) -> Deferred[None]:
        """Fires when so many requests have come."""
        waiting: Deferred[None] = Deferred()
        if len(self.asked) >= count:
            waiting.callback(None)
        else:
            self._waiting.append((count, waiting))
        return waiting

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.asked]


class HooksCase(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(Abuse, "_look_later", lambda _self: None)  # its timer outlives a server by a minute
        self.patch(delivery, "FIRST_DELAY_S", 0.02)
        self.backend = Backend()
        site = Site(self.backend)
        site.noisy = False
        self.port: Any = reactor.listenTCP(0, site, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.addCleanup(self.port.stopListening)
        self.url = f"http://user:secret@127.0.0.1:{self.port.getHost().port}/hook?token=secret"

    def serve(self, *hooks: HookSettings, settings: Settings | None = None) -> RapidRtmpService:
        return self.start(replace(settings or loopback_settings(), hooks=hooks))

    def file(self, data: bytes) -> str:
        path = Path(self.mktemp()).absolute()
        path.write_bytes(data)
        return str(path)

    def read(self, path: str) -> bytes:
        return Path(path).read_bytes()

    async def hooks(self, service: RapidRtmpService) -> Any:
        status, body = await self.get(service, "/api/v1/hooks")
        self.assertEqual(200, status)
        return json.loads(body)


class WebhookTests(HooksCase):
    async def test_life_of_a_stream(self) -> None:
        """Another server hears of a stream's life, in order and over connections that are used again."""
        service = self.serve(HookSettings(url=self.url, events=("publish", "first_segment", "unpublish")))
        encoder = await self.publish(service, b"".join(media(5)))
        await self.backend.wait(2)
        encoder.transport.loseConnection()
        await self.backend.wait(3)
        self.assertEqual(["publish", "first_segment", "unpublish"], [each["type"] for each in self.backend.events])
        self.assertEqual(
            [
                event.id
                for event in service.events.after(0)
                if event.type.value in ("publish", "first_segment", "unpublish")
            ],
            [each["id"] for each in self.backend.events],
        )
        self.assertEqual(1, len(self.backend.connections))
        headers, _ = self.backend.asked[0]
        self.assertEqual(str(self.backend.events[0]["id"]), headers["Idempotency-Key"])
        self.assertEqual(f"Basic {b64encode(b'user:secret').decode()}", headers["Authorization"])
        self.assertNotIn("X-Rapidrtmp-Signature", {name.title() for name in headers})
        await service.stopService()

    async def test_signed_posts_are_new(self) -> None:
        """What is sent can be distinguished from what others send, and is new."""
        service = self.serve(HookSettings(url=self.url, secret_file=self.file(b"shared secret\n")))
        service.events.record(EventType.RELAY, NAME)
        await self.backend.wait(1)
        headers, body = self.backend.asked[0]
        fields = {name.lower(): value for name, value in headers.items()}
        said = fields["x-rapidrtmp-timestamp"]
        expected = hmac.new(b"shared secret", said.encode() + b"." + body, hashlib.sha256).hexdigest()
        self.assertEqual(f"sha256={expected}", fields["x-rapidrtmp-signature"])
        self.assertApproximates(time.time(), int(said), 30)
        await service.stopService()

    async def test_again_with_the_same_id(self) -> None:
        """What is not taken, for whatever reason, comes again with the same id, and then what followed."""
        service = self.serve(HookSettings(url=self.url, timeout_ms=200))
        self.backend.answers = [(500, b""), (302, b""), None, (403, b""), (200, b"")]
        self.backend.location = self.url.encode()
        service.events.record(EventType.PUBLISH, NAME)
        service.events.record(EventType.UNPUBLISH, NAME)
        await self.backend.wait(6)
        self.assertEqual(["publish"] * 5 + ["unpublish"], [each["type"] for each in self.backend.events])
        self.assertEqual(2, len({headers["Idempotency-Key"] for headers, _ in self.backend.asked}))
        (hook,) = (await self.hooks(service))["hooks"]
        self.assertEqual((4, 0), (hook["retried"], hook["deadLetters"]))
        await service.stopService()

    async def test_dead_letters_are_listed(self) -> None:
        """What cannot be delivered is listed with the reason, counted in the metrics, and names no secret."""
        service = self.serve(
            HookSettings(url=self.url, attempts=2), HookSettings(url="http://127.0.0.1:9/", attempts=1)
        )
        self.backend.answers = [(500, b""), (503, b"")]
        service.events.record(EventType.PUBLISH, NAME, "192.0.2.1")
        await self.backend.wait(2)
        while len((shown := await self.hooks(service))["deadLetters"]) < 2:
            pass
        first, second = shown["deadLetters"]
        self.assertEqual(
            (1, "publish", 2, "answered 503"),
            (first["hook"], first["event"]["type"], first["attempts"], first["error"]),
        )
        self.assertEqual((2, 1), (second["hook"], second["attempts"]))
        self.assertTrue(second["error"])
        self.assertEqual([1, 1], [hook["deadLetters"] for hook in shown["hooks"]])
        _, metrics = await self.get(service, "/metrics")
        self.assertIn(b'rapidrtmp_hook_events_total{hook="1",result="dead"} 1.0', metrics)
        self.assertNotIn("secret", json.dumps(shown))
        await service.stopService()

    async def test_srs_code_refuses_events(self) -> None:
        """In the words of SRS an answer with a code that is not 0 is a refusal."""
        service = self.serve(HookSettings(url=self.url, format="srs"))
        self.backend.answers = [(200, b'{"code": 1}'), (200, b"7"), (200, b"0")]
        service.events.record(EventType.PUBLISH, NAME)
        await self.backend.wait(3)
        self.assertEqual(["on_publish"] * 3, [each["action"] for each in self.backend.events])
        service.events.record(EventType.TRACKS, NAME)
        service.events.record(EventType.UNPUBLISH, NAME)
        await self.backend.wait(4)
        self.assertEqual("on_unpublish", self.backend.events[-1]["action"])
        await service.stopService()

    async def test_stop_delivers_last_events(self) -> None:
        """What happens because the server stops is delivered before it is gone."""
        service = self.serve(HookSettings(url=self.url, events=("unpublish",)))
        await self.publish(service, b"".join(media(5)))
        while not any(event.type is EventType.FIRST_SEGMENT for event in service.events.after(0)):
            await self.get(service, "/ready")
        await service.stopService()
        self.assertEqual(["unpublish"], [each["type"] for each in self.backend.events])

    async def test_stop_in_time(self) -> None:
        """A server that does not answer does not hold up the stop."""
        service = self.serve(HookSettings(url=self.url))
        self.backend.answers = [None]
        service.events.record(EventType.PUBLISH, NAME)
        await self.backend.wait(1)
        begun = time.monotonic()
        await service.stopService()
        self.assertLess(time.monotonic() - begun, 8)

    async def test_reload_brings_and_ends_hooks(self) -> None:
        """New settings bring and end hooks; one that stays continues; a secret that cannot be read changes nothing."""
        stays = HookSettings(url=self.url, events=("publish",))
        service = self.serve(stays, HookSettings(url=self.url, events=("relay",)))
        service.events.record(EventType.PUBLISH, NAME)
        await self.backend.wait(1)
        settings = service.applications.settings
        outcomes = await service.follow(
            replace(settings, hooks=(stays, HookSettings(url=self.url, events=("ladder",))))
        )
        self.assertEqual({"hooks": Outcome.APPLIED}, outcomes)
        service.events.record(EventType.RELAY, NAME)
        service.events.record(EventType.LADDER, NAME)
        await self.backend.wait(2)
        self.assertEqual(["publish", "ladder"], [each["type"] for each in self.backend.events])
        bad = replace(settings, hooks=(HookSettings(url=self.url, secret_file="no/such/file"),))
        with self.assertRaises(ConfigurationError):
            await service.follow(bad)
        self.assertEqual([1, 1], [hook["delivered"] for hook in (await self.hooks(service))["hooks"]])
        await service.stopService()


class CommandTests(HooksCase):
    def command(self, program: str) -> tuple[str, ...]:
        return (sys.executable, "-c", program)

    async def test_input_of_a_command(self) -> None:
        """A command has the event on its standard input, and of our environment nothing that may be a secret."""
        path = self.file(b"")
        self.patch(os, "environ", {**os.environ, "RAPIDRTMP_SERVER_API_TOKEN": "the-secret-token"})
        program = (
            "import json, os, sys; event = json.load(sys.stdin); event['env'] = dict(os.environ); "
            f"open({path!r}, 'w').write(json.dumps(event))"
        )
        service = self.serve(HookSettings(exec=self.command(program)))
        service.events.record(EventType.PUBLISH, NAME, "192.0.2.1", {"client": "ü"})
        while not (await self.hooks(service))["hooks"][0]["delivered"]:
            pass
        said = json.loads(self.read(path))
        self.assertEqual(("publish", "k", "ü"), (said["type"], said["stream"], said["data"]["client"]))
        self.assertEqual(str(said["id"]), said["env"]["RAPIDRTMP_EVENT_ID"])
        self.assertNotIn("the-secret-token", json.dumps(said))
        await service.stopService()

    async def test_failing_command_is_dead_letter(self) -> None:
        """A command that fails, hangs or is not there is a dead letter in the end, in words."""
        service = self.serve(
            HookSettings(exec=self.command("import sys; sys.exit('disk full')"), attempts=2),
            HookSettings(exec=self.command("import time; time.sleep(60)"), attempts=1, timeout_ms=300),
            HookSettings(exec=("/no/such/program",), attempts=1),
        )
        service.events.record(EventType.PUBLISH, NAME)
        while len((shown := await self.hooks(service))["deadLetters"]) < 3:
            pass
        first, second, third = (letter["error"] for letter in shown["deadLetters"])
        self.assertEqual("exit status 1: disk full", first)
        self.assertIn("longer than 0.3 s", second)
        self.assertTrue(third)
        await service.stopService()


class EnvironmentTests(SynchronousTestCase):
    def test_our_settings_stay_with_us(self) -> None:
        """Our own settings stay with us."""
        self.assertEqual({"PATH": "/bin"}, command_environment({"PATH": "/bin", "RAPIDRTMP_TOKENS_SECRET": "x"}))
