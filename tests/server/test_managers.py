"""Whose tokens open the management API of a whole server."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import jwt
from twisted.web.client import readBody
from twisted.web.http_headers import Headers

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.server.service import RapidRtmpService
from rapidrtmp.settings.model import Settings
from rapidrtmp.web.abuse import Abuse
from tests.serving import ServerCase, loopback_settings, open_app
from tests.slow import slow

KEYS = {name: f"the secret of the issuer {name}, of many bytes".encode() for name in ("server", "app", "later")}


class ManagersTests(ServerCase):
    def setUp(self) -> None:
        super().setUp()
        self.patch(Abuse, "_look_later", lambda _self: None)  # its timer outlives a server by a minute
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        for name, key in KEYS.items():
            (self.folder / name).write_bytes(key)

    def settings(self, *auth: str) -> Settings:
        """A server with authenticators of its own, and an application that has another."""
        made = loopback_settings(live=replace(open_app(), auth=(self.issuer("app"),)))
        secret = str(self.folder / "api.key")
        server = replace(made.server, auth=auth, api_token_file=secret, numbers_file=str(self.folder / "numbers"))
        return replace(made, server=server)

    def issuer(self, name: str) -> str:
        return f"jwt:key={self.folder / name}"

    async def status(self, service: RapidRtmpService, issuer: str) -> int:
        """How the server answers a token of an issuer."""
        token = jwt.encode({"actions": "manage", "exp": int(time.time()) + 60}, KEYS[issuer], "HS256")
        url = f"http://127.0.0.1:{service.http.number}/api/v1/streams".encode()
        response = await self.agent.request(b"GET", url, Headers({"authorization": [f"Bearer {token}"]}))
        await readBody(response)
        return int(response.code)

    @slow
    async def test_only_the_issuer_of_the_server_is_believed(self) -> None:
        """A token of the server's own issuer is taken; one of an application's is not."""
        service = self.start(self.settings("open", self.issuer("server")))
        self.assertEqual([200, 401], [await self.status(service, issuer) for issuer in ("server", "app")])

    async def test_server_without_an_issuer_takes_no_tokens(self) -> None:
        """Where the server's own authenticators cannot decide it, the secret is all there is."""
        service = self.start(self.settings("open"))
        self.assertEqual(401, await self.status(service, "app"))

    async def test_issuer_is_replaced_by_new_settings(self) -> None:
        """New settings bring another issuer while the server runs, and the former one is believed no more."""
        service = self.start(self.settings(self.issuer("server")))
        service.applications.replace(self.settings(self.issuer("later")))
        self.assertEqual([200, 401], [await self.status(service, issuer) for issuer in ("later", "server")])
        self.assertRaises(ConfigurationError, service.applications.replace, self.settings(self.issuer("none")))
        self.assertEqual([200, 401], [await self.status(service, issuer) for issuer in ("later", "server")])
