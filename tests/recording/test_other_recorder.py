"""A recorder of a third party, with a name and a package of its own, in a whole server."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.application.service import MultiService

import rapidrtmp.plugins
from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.discovery import plugin_sections
from rapidrtmp.interfaces import Outcome
from rapidrtmp.names import StreamName
from rapidrtmp.recording.service import RecordingsService
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import Settings
from rapidrtmp.settings.sources import load_settings
from tests.net.edge import media
from tests.serving import ServerCase, loopback_settings, open_app
from tests.third_party import install_archive


def said(outcomes: Mapping[str, Outcome]) -> dict[str, str]:
    """What becomes of each key, in words."""
    return {name: outcome.value for name, outcome in outcomes.items()}


class OtherRecorderTests(ServerCase):
    """An application with the sinks ``hls`` and ``archive``."""

    def setUp(self) -> None:
        super().setUp()
        folder = Path(self.mktemp()).resolve()
        package = f"archive_{folder.name.replace('.', '_')}"
        entries = folder / "rapidrtmp" / "plugins"
        install_archive(package, folder, entries / f"{package}_entry.py")
        self.patch(sys, "path", [*sys.path, str(folder)])
        self.patch(rapidrtmp.plugins, "__path__", [*rapidrtmp.plugins.__path__, str(entries)])
        self.addCleanup(sys.modules.pop, f"rapidrtmp.plugins.{package}_entry", None)
        self.addCleanup(sys.modules.pop, package, None)
        self.addCleanup(sys.modules.pop, f"{package}.settings", None)

    async def ask(self, service: RapidRtmpService, action: str) -> tuple[int, Any]:
        """Start or stop recording by hand."""
        status, body = await self.get(
            service, "/api/v1/streams/k/record", b"POST", json.dumps({"action": action}).encode()
        )
        return status, json.loads(body)

    async def states(self, service: RapidRtmpService) -> list[str]:
        """Those of the recordings in the library, the newest first."""
        _, body = await self.get(service, "/api/v1/recordings")
        return [each["state"] for each in json.loads(body)["recordings"]]

    async def until(self, check: Callable[[], Awaitable[bool]]) -> None:
        while not await check():
            pass

    async def test_other_recorder_is_a_recorder(self) -> None:
        """It is started and stopped by the API, its recordings are in the library, and its limits are kept."""
        settings = loopback_settings(live=open_app("hls", "archive:most=1"))
        settings = replace(settings, server=replace(settings.server, sinks=("hls",)))
        service = self.start(settings, choose_plugins(settings))
        encoder = await self.publish(service, b"".join(media(9)))

        async def is_recorded() -> bool:
            return await self.states(service) == ["recording"]

        await self.until(is_recorded)
        stream = service.registry.find(StreamName("live", "k"))
        assert stream is not None
        self.assertEqual(["hls", "archive"], list(stream.sinks))
        self.assertEqual(409, (await self.ask(service, "start"))[0])
        self.assertEqual((200, {"recording": False, "streamKey": "k"}), await self.ask(service, "stop"))
        self.assertEqual(["hls"], list(stream.sinks))

        async def is_over() -> bool:
            return await self.states(service) == ["finished"]

        await self.until(is_over)
        self.assertEqual(409, (await self.ask(service, "stop"))[0])
        self.assertEqual((200, {"recording": True, "streamKey": "k"}), await self.ask(service, "start"))
        self.assertEqual(["hls", "archive"], list(stream.sinks))
        (looked_after,) = (
            each
            for care in service
            if isinstance(care, MultiService)
            for each in care
            if isinstance(each, RecordingsService)
        )
        await looked_after._retention.sweep()
        self.assertNotIn("finished", await self.states(service))
        await service.stopService()
        await encoder.gone

    async def test_section_of_its_own_settings(self) -> None:
        """What its section of the settings says is what its sinks and its routes go by, also when that changes."""
        plugins = plugin_sections()

        def read(**environment: str) -> Settings:
            loaded = load_settings({}, environment, None, plugins).settings
            return replace(loopback_settings(live=open_app("archive")), sections=loaded.sections)

        settings = read(RAPIDRTMP_ARCHIVE_KEEP_DAYS="3")
        service = self.start(settings, choose_plugins(settings))

        def kept_days() -> float:
            return service.applications["live"].sinks["archive"].retention.age_ms / 86_400_000

        self.assertEqual(3, kept_days())
        self.assertEqual((200, b'{"place": "shelf"}\n'), await self.get(service, "/api/v1/archive"))
        changed = {"RAPIDRTMP_ARCHIVE_KEEP_DAYS": "5", "RAPIDRTMP_ARCHIVE_PAUSE": "2s"}
        vault = {"RAPIDRTMP_ARCHIVE_PLACE": "vault", "RAPIDRTMP_ARCHIVE_PASSWORD": "hidden"}
        outcomes = service.applications.replace(read(**changed))
        self.assertEqual({"archive.keep_days": "for new streams", "archive.pause": "needs a restart"}, said(outcomes))
        self.assertEqual(5, kept_days())
        outcomes = service.applications.replace(read(RAPIDRTMP_ARCHIVE_KEEP_DAYS="6", **vault))
        self.assertEqual(
            dict.fromkeys(["archive.keep_days", "archive.place", "archive.password"], "needs a restart"),
            said(outcomes),
            "the place does not go together with the password of now",
        )
        self.assertEqual(5, kept_days())
        self.assertEqual((200, b'{"place": "shelf"}\n'), await self.get(service, "/api/v1/archive"))
        await service.stopService()

    async def test_section_is_looked_up(self) -> None:
        """A contributor that asks for its section finds what new settings made of it."""
        plugins = plugin_sections()
        settings = loopback_settings(live=open_app("archive"))

        def place(name: str) -> Settings:
            environment = {"RAPIDRTMP_ARCHIVE_PLACE": name, "RAPIDRTMP_ARCHIVE_PASSWORD": "hidden"}
            return replace(settings, sections=load_settings({}, environment, None, plugins).settings.sections)

        service = self.start(place("shelf"), choose_plugins(place("shelf")))
        self.assertEqual({"archive.place": "applied"}, said(service.applications.replace(place("vault"))))
        self.assertEqual((200, b'{"place": "vault"}\n'), await self.get(service, "/api/v1/archive"))
        await service.stopService()

    async def test_comes_with_new_settings(self) -> None:
        """An application that comes with it brings its routes, its recordings and their limits; they go with it."""
        sections = load_settings({}, {}, None, plugin_sections()).settings.sections
        settings = replace(loopback_settings(live=open_app("hls")), sections=sections)
        radio = replace(open_app("hls", "archive:most=1"), grace_ms=0)
        service = self.start(settings, choose_plugins(settings))
        self.assertEqual(404, (await self.get(service, "/api/v1/archive"))[0])
        with_radio = replace(settings, apps={**settings.apps, "radio": radio})
        self.assertEqual({"apps.radio": "applied"}, said(service.applications.replace(with_radio)))
        self.assertEqual((200, b'{"place": "shelf"}\n'), await self.get(service, "/api/v1/archive"))
        encoder = await self.publish(service, b"".join(media(9)), "radio")

        async def is_recorded() -> bool:
            return await self.states(service) == ["recording"]

        await self.until(is_recorded)
        self.assertEqual({"apps.radio": "applied"}, said(service.applications.replace(settings)))
        self.assertEqual(200, (await self.get(service, "/api/v1/archive"))[0], "its stream is still live")
        encoder.transport.loseConnection()
        await encoder.gone

        async def is_over() -> bool:
            return await self.states(service) == ["finished"]

        await self.until(is_over)
        (stream,) = service.registry
        service.registry._forget(stream.name)  # as when its linger time is over
        self.assertEqual(404, (await self.get(service, "/api/v1/archive"))[0])
        self.assertEqual(["finished"], await self.states(service), "what it recorded stays")
        await service.stopService()
