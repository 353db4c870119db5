"""A recorder of a third party, with a name and a package of its own, in a whole server."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import rapidrtmp.plugins
from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.names import StreamName
from rapidrtmp.recording.service import RecordingsService
from rapidrtmp.server.service import RapidRtmpService
from tests.net.edge import media
from tests.serving import ServerCase, loopback_settings, open_app

ENTRY = """
from rapidrtmp.discovery import SinkPlugin

archive = SinkPlugin("archive", "Records as the archive wants it", "{package}.ArchiveFactory")
"""
PACKAGE = '''
from zope.interface import implementer

from rapidrtmp.interfaces import IRecorderFactory, IStoringSinkFactory, Purpose, RetentionRules
from rapidrtmp.recording.sink import RecorderFactory


@implementer(IRecorderFactory, IStoringSinkFactory)
class ArchiveFactory:
    """Records in segments of a second."""

    purpose = Purpose.RECORDINGS

    def __init__(self, most: str = "0") -> None:
        self.retention = RetentionRules(max_bytes=int(most))
        self._recorders = RecorderFactory(segment="1s")

    def create(self, context):
        return self._recorders.create(context)
'''


class OtherRecorderTests(ServerCase):
    """An application with the sinks ``hls`` and ``archive``."""

    def setUp(self) -> None:
        super().setUp()
        folder = Path(self.mktemp()).resolve()
        package = f"archive_{folder.name.replace('.', '_')}"
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(PACKAGE)
        entries = folder / "rapidrtmp" / "plugins"
        entries.mkdir(parents=True)
        (entries / f"{package}_entry.py").write_text(ENTRY.format(package=package))
        self.patch(sys, "path", [*sys.path, str(folder)])
        self.patch(rapidrtmp.plugins, "__path__", [*rapidrtmp.plugins.__path__, str(entries)])
        self.addCleanup(sys.modules.pop, f"rapidrtmp.plugins.{package}_entry", None)
        self.addCleanup(sys.modules.pop, package, None)

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

    async def test_recorder(self) -> None:
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
        (looked_after,) = (each for each in service if isinstance(each, RecordingsService))
        await looked_after._retention.sweep()
        self.assertNotIn("finished", await self.states(service))
        await service.stopService()
        await encoder.gone
