"""The whole server on loopback, in the process of the test."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool, readBody
from twisted.web.http_headers import Headers

from rapidrtmp.app.plugins import ChosenPlugins, choose_plugins
from rapidrtmp.server import service as server
from rapidrtmp.server.service import RapidRtmpService, make_service
from rapidrtmp.settings.model import AppSettings, ServerSettings, Settings
from tests.rtmp.client import HANDSHAKE, command, connect, publish

__all__ = ["LOOPBACK", "Encoder", "ServerCase", "loopback_settings", "open_app"]

LOOPBACK = ("tcp:0:interface=127.0.0.1",)


def open_app(*sinks: str, storage: str = "memory:", recordings: str = "") -> AppSettings:
    """An application that is open to every publisher."""
    return AppSettings(sinks=sinks or ("hls",), auth=("open",), storage=storage, recordings=recordings or storage)


def loopback_settings(**apps: AppSettings) -> Settings:
    """A server on ports that are free; if no applications are given it keeps nothing."""
    return Settings(
        server=ServerSettings(rtmp=LOOPBACK, http=LOOPBACK, shutdown_timeout_ms=3_000),
        apps=apps or {"live": open_app()},
    )


class Encoder(Protocol):
    """Sends bytes; ``gone`` fires when the server has closed the connection."""

    def __init__(self) -> None:
        self.heard = b""
        self.gone: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.gone.callback(None)


class ServerCase(TestCase):
    """A test with servers, encoders and HTTP clients."""

    timeout = 30

    def setUp(self) -> None:
        self.patch(server, "settle_memory", lambda: None)  # it is for good, and for a whole process
        self.pool = HTTPConnectionPool(reactor, persistent=False)
        self.agent = Agent(reactor, pool=self.pool)

    def start(self, settings: Settings, plugins: ChosenPlugins | None = None) -> RapidRtmpService:
        service = make_service(reactor, settings, plugins or choose_plugins(settings))
        service.privilegedStartService()
        service.startService()
        self.addCleanup(lambda: service.stopService() if service.running else None)  # its threads keep a process alive
        return service

    async def encoder(self, service: RapidRtmpService) -> Any:
        port = service.rtmp.number
        return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", port), Encoder())

    async def get(
        self, service: RapidRtmpService, path: str, method: bytes = b"GET", body: bytes = b"", agent: str = ""
    ) -> tuple[int, bytes]:
        port = service.http.number
        producer = FileBodyProducer(BytesIO(body)) if body else None
        headers = Headers({"User-Agent": [agent]}) if agent else None
        response = await self.agent.request(method, f"http://127.0.0.1:{port}{path}".encode(), headers, producer)
        return response.code, await readBody(response)

    async def publish(self, service: RapidRtmpService, media: bytes, app: str = "live", key: str = "k") -> Any:
        """An encoder that has sent ``media`` as a stream of an application."""
        encoder = await self.encoder(service)
        request = connect(app, f"rtmp://x/{app}") + command("createStream", 4) + publish(key)
        encoder.transport.write(HANDSHAKE + request + media)
        return encoder
