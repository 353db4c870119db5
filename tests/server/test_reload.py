"""The configuration, read again by a whole server."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs

from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.names import StreamName
from rapidrtmp.server import reload
from rapidrtmp.server.configuration import Configuration
from rapidrtmp.server.service import RapidRtmpService, make_service
from rapidrtmp.settings.sources import PluginSections
from rapidrtmp.web.abuse import Abuse
from tests.net.edge import media
from tests.serving import ServerCase

DOORS = "[server]\nrtmp = 'tcp:0:interface=127.0.0.1'\nhttp = 'tcp:0:interface=127.0.0.1'\nauth = 'open'\n"
LIVE = f"{DOORS}[storage]\nspec = 'memory:'\n[hls]\nsegment = '1s'\n"


class ReloadCase(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(Abuse, "note_status", lambda *_: None)  # its timer outlives the server
        self.path = Path(self.mktemp()).resolve()
        self.folder = f"local:{self.mktemp()}"

    def run_server(self, toml: str) -> RapidRtmpService:
        """A server with a configuration file."""
        self.path.write_text(toml)
        configuration = Configuration({}, {}, self.path, PluginSections())
        settings = configuration.load().settings
        service = make_service(reactor, settings, choose_plugins(settings), configuration)
        service.privilegedStartService()
        service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)
        return service

    async def post(self, service: RapidRtmpService, path: str, value: object = None) -> tuple[int, Any]:
        status, body = await self.get(service, path, b"POST", json.dumps(value).encode() if value else b"")
        return status, json.loads(body)

    async def reload(self, service: RapidRtmpService, toml: str) -> tuple[int, Any]:
        """The answer when the file has become another."""
        self.path.write_text(toml)
        return await self.post(service, "/api/v1/reload")


def lines(events: Sequence[Any]) -> list[str]:
    """What a reload has logged."""
    return [event["log_format"].format(**event) for event in events if event["log_namespace"].endswith("Reloading")]


def answer(applied: str = "", new_streams: str = "", restart: str = "") -> tuple[int, dict[str, list[str]]]:
    """What the server says of these keys."""
    return 200, {"applied": applied.split(), "forNewStreams": new_streams.split(), "needsRestart": restart.split()}


class ReloadTests(ReloadCase):
    async def test_outcomes_for_each_key(self) -> None:
        """Each key that differs is answered with what becomes of it, a file that is the same with nothing."""
        service = self.run_server(LIVE)
        self.assertEqual(answer(), await self.reload(service, LIVE))
        new = LIVE.replace("1s", "2s").replace(
            "auth = 'open'", "auth = 'open'\nshutdown_timeout = '3s'\nmax_streams = 1"
        )
        new += "[apps.radio]\n"
        applied = "server.max_streams apps.live.max_streams apps.radio"
        expected = answer(applied, "hls.segment", "server.shutdown_timeout")
        self.assertEqual(expected, await self.reload(service, new))
        self.assertEqual(answer(restart="server.shutdown_timeout"), await self.reload(service, new))
        self.assertEqual(1, service.registry.max_streams)

    async def test_nobody_is_dropped(self) -> None:
        """A live stream goes through a reload with the publisher and the playlist that it has."""
        service = self.run_server(LIVE)
        encoder = await self.publish(service, b"".join(media(3)))
        while (await self.get(service, "/live/k/index.m3u8"))[0] != 200:
            pass
        stream = service.registry.find(StreamName("live", "k"))
        self.assertEqual(200, (await self.reload(service, LIVE.replace("1s", "2s") + "[apps.radio]\n"))[0])
        assert stream is not None
        self.assertIs(stream, service.registry.find(StreamName("live", "k")))
        self.assertIsNotNone(stream.publisher)
        await service.stopService()
        await encoder.gone

    async def test_bad_files_change_nothing(self) -> None:
        """A file that is wrong is refused with why, in one line, and changes nothing."""
        service = self.run_server(LIVE)
        before = dict(service.applications)
        for wrong, words in (
            ("[hls]\nsegmnt = 2\n", "did you mean segment?"),
            ("[hls\n", "is not TOML"),
            ("[hls]\nwindow = 1\n", "3 or more"),
            ("[server]\nsinks = 'hsl'\n", "did you mean hls?"),
            ("[server]\nhttp = 'tpc:80'\n", "Unknown endpoint type"),
            ("[storage]\nspec = 'lcoal:x'\n", "did you mean local?"),
            ("[apps.radio]\nauth = 'token:secret=short'\n", "authenticator token"),
        ):
            status, body = await self.reload(service, wrong)
            self.assertEqual((400, ["error"]), (status, list(body)))
            self.assertIn(words, body["error"])
            self.assertNotIn("\n", body["error"])
        self.path.unlink()
        self.assertIn(str(self.path), (await self.post(service, "/api/v1/reload"))[1]["error"])
        self.assertEqual(before, dict(service.applications))

    async def test_diff_tells_what_would_change(self) -> None:
        """What another file would change is answered beforehand, and nothing changes."""
        service = self.run_server(LIVE)
        before = dict(service.applications)
        new = {"toml": LIVE.replace("1s", "2s") + "[apps.radio]\n[storage]\n", "file": "new.toml"}
        status, body = await self.post(service, "/api/v1/config/diff", new)
        self.assertEqual((400, True), (status, body["error"].startswith("new.toml is not TOML")))
        new["toml"] = new["toml"].removesuffix("[storage]\n")
        diff = await self.post(service, "/api/v1/config/diff", new)
        self.assertEqual(answer("apps.radio", "hls.segment"), diff)
        self.assertEqual(before, dict(service.applications))
        self.assertEqual(diff, await self.reload(service, new["toml"]))
        self.assertEqual(400, (await self.post(service, "/api/v1/config/diff", {"file": "x"}))[0])

    async def test_resumes_what_comes(self) -> None:
        """Of an application that comes, the streams that an earlier server left are resumed, and viewers continue."""
        radio = f"{LIVE}[live]\ngrace = '1m'\n[apps.radio]\nstorage = '{self.folder}'\n"
        first = self.run_server(radio)
        encoder = await self.publish(first, b"".join(media(9)), "radio")
        while (await self.get(first, "/radio/k/index.m3u8"))[0] != 200:
            pass
        await first.stopService()
        await encoder.gone
        second = self.run_server(LIVE)
        self.assertEqual(404, (await self.get(second, "/radio/k/index.m3u8"))[0])
        self.assertEqual(answer("apps.radio", "apps.live.grace"), await self.reload(second, radio))
        stream = second.registry.find(StreamName("radio", "k"))
        assert stream is not None
        self.assertEqual("interrupted", stream.state.value)
        self.assertEqual(200, (await self.get(second, "/radio/k/index.m3u8"))[0])

    async def test_configuration_that_is_followed(self) -> None:
        """The configuration is shown as it is followed, with the source of each value: a file that is wrong is not."""
        service = self.run_server(LIVE)

        async def shown() -> str:
            status, body = await self.get(service, "/api/v1/config")
            self.assertEqual(200, status)
            text: str = json.loads(body)["text"]
            return text

        before = await shown()
        self.assertIn("[hls]", before)
        self.assertIn(f"# {self.path}", before)
        await self.reload(service, "[hls\n")
        self.assertEqual(before, await shown())
        await self.reload(service, LIVE + "[apps.radio]\n")
        self.assertIn("[apps.radio]", await shown())

    async def test_several_at_once(self) -> None:
        """Reloads that are asked for at the same time are done one after the other, and each is answered."""
        service = self.run_server(LIVE)
        self.path.write_text(f"{LIVE}[apps.radio]\nstorage = '{self.folder}'\n")
        both = [Deferred.fromCoroutine(self.post(service, "/api/v1/reload")) for _ in range(2)]
        self.assertCountEqual([answer("apps.radio"), answer()], [await each for each in both])

    async def test_hang_up_is_one_line(self) -> None:
        """What a hang-up changed, or why it changed nothing, is a line in the log."""
        service = self.run_server(LIVE)
        self.patch(reload, "HANG_UP_S", 0.05)
        for toml, expected in (
            (f"{LIVE}[apps.radio]\n", "reloaded the configuration: applied: apps.radio"),
            (f"{LIVE}[apps.radio]\n", "reloaded the configuration: nothing has changed"),
            ("[hls\n", f"the configuration is not reloaded, nothing changes: {self.path} is not TOML"),
        ):
            self.path.write_text(toml)
            with capturedLogs() as events:
                for _ in range(100):  # at once: they are one
                    service.hang_up()
                while not lines(events):
                    await self.get(service, "/api/ping")
            (line,) = lines(events)
            self.assertTrue(line.startswith(expected), line)

    async def test_hang_up_meanwhile(self) -> None:
        """A hang-up that comes just after a reload is followed by another, so that the file is as it was left."""
        service = self.run_server(LIVE)
        self.patch(reload, "HANG_UP_S", 0.05)
        with capturedLogs() as events:
            service.hang_up()
            while not lines(events):
                await self.get(service, "/api/ping")
            self.path.write_text(f"{LIVE}[apps.radio]\n")
            service.hang_up()
            while "radio" not in service.applications:
                await self.get(service, "/api/ping")
        service.hang_up()
        await service.stopService()

    async def test_described_in_the_openapi(self) -> None:
        """The routes are in the description of the API, and belong to the management API."""
        service = self.run_server(LIVE)
        _, text = await self.get(service, "/api/v1/openapi.json")
        described = json.loads(text)
        for path in ("/api/v1/reload", "/api/v1/config/diff"):
            self.assertIn("security", described["paths"][path]["post"])
        named = set(re.findall(r"#/components/schemas/(\w+)", text.decode()))
        self.assertEqual(described["components"]["schemas"].keys(), named)
        for schema in described["components"]["schemas"].values():
            Draft202012Validator.check_schema(schema)
