"""Applications that come and go while a whole server runs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from rapidrtmp.interfaces import Outcome
from rapidrtmp.live.stream import StreamState
from rapidrtmp.names import StreamName
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import AppSettings, LiveSettings, Settings
from tests.net.edge import media
from tests.serving import ServerCase, loopback_settings, open_app

RADIO = StreamName("radio", "k")


class ChangingTests(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.folder = self.mktemp()

    def settings(self, **others: AppSettings) -> Settings:
        live = LiveSettings(grace_ms=0, linger_ms=0)
        return replace(loopback_settings(live=open_app("hls:segment=1s"), **others), live=live)

    def radio(self, *sinks: str) -> AppSettings:
        """An application with a storage of its own."""
        sinks = sinks or ("hls:segment=1s", "record:segment=1s")
        return replace(open_app(*sinks, storage=f"local:{self.folder}"), grace_ms=0)

    async def checks(self, service: RapidRtmpService) -> list[str]:
        return [each["name"] for each in json.loads((await self.get(service, "/ready"))[1])["checks"]]

    async def recordings(self, service: RapidRtmpService) -> list[dict[str, Any]]:
        _, body = await self.get(service, "/api/v1/recordings")
        listed: list[dict[str, Any]] = json.loads(body)["recordings"]
        return listed

    async def test_application_comes_with_its_storage(self) -> None:
        """One that comes takes streams, stores and records them where it says, and its storage is looked after."""
        service = self.start(self.settings())
        self.assertEqual(404, (await self.get(service, "/radio/k"))[0])
        outcomes = service.applications.replace(self.settings(radio=self.radio()))
        self.assertEqual({"apps.radio": Outcome.APPLIED}, outcomes)
        self.assertEqual(200, (await self.get(service, "/radio/k"))[0])
        self.assertIn("apps.radio.storage", await self.checks(service))
        encoder = await self.publish(service, b"".join(media(9)), "radio")
        while not [each for each in await self.recordings(service) if each["segments"]]:
            pass
        self.assertEqual(200, (await self.get(service, "/radio/k/index.m3u8"))[0])
        (recording,) = await self.recordings(service)
        path = f"/recordings/radio/k/{recording['start']}/recording.mp4"
        self.assertEqual(200, (await self.get(service, path))[0])
        _, scraped = await self.get(service, "/metrics")
        self.assertIn(b'rapidrtmp_storage_leases{storage="apps.radio.storage"} 1.0', scraped)
        await service.stopService()
        await encoder.gone

    async def test_application_goes_with_its_stream(self) -> None:
        """One that goes keeps its live stream, takes no other, and is gone when that has ended."""
        service = self.start(self.settings(radio=self.radio()))
        encoder = await self.publish(service, b"".join(media(3)), "radio")
        while service.registry.find(RADIO) is None:
            await self.get(service, "/api/ping")
        service.applications.replace(self.settings())
        stream = service.registry.find(RADIO)
        assert stream is not None
        self.assertIs(StreamState.LIVE, stream.state)
        while (await self.get(service, "/radio/k/index.m3u8"))[0] != 200:
            pass
        self.assertEqual(200, (await self.get(service, "/radio/k"))[0])
        refused = await self.publish(service, b"", "radio", key="other")
        await refused.gone
        self.assertIn(b"radio is gone from the settings and takes no more streams", refused.heard)
        self.assertIn("apps.radio.storage", await self.checks(service))
        encoder.transport.loseConnection()
        await encoder.gone
        while "radio" in service.applications:
            await self.get(service, "/api/ping")
        self.assertEqual(404, (await self.get(service, "/radio/k"))[0])
        self.assertNotIn("apps.radio.storage", await self.checks(service))
        self.assertEqual(200, (await self.get(service, "/ready"))[0])
        refused = await self.publish(service, b"", "radio")
        await refused.gone
        self.assertIn(b"there is no application", refused.heard)
        await service.stopService()
