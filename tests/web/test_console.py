"""The console's pages and sessions: who gets in, what a session may do, and what it may not be made to do."""

from __future__ import annotations

import re
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.web.console.sessions import COOKIE, LIFETIME_S, Sessions
from tests.slow import slow
from tests.web.kit import EPOCH_MS, Reply, Server, Wire

SECRET = "made-on-first-start"
HERE = "http://localhost:8080"
STRANGER = "192.0.2.1"


def send(server: Server, path: str, fields: dict[str, str], origin: str = HERE, **headers: str) -> Reply:
    """Send a form, as a browser elsewhere does."""
    sent = {"Origin": origin, **headers} if origin else headers
    return server.request("POST", path, urlencode(fields).encode(), peer=STRANGER, **sent)


def log_in(server: Server) -> tuple[str, str]:
    """Log in; the cookie as it is sent back, and the token in the page."""
    cookie = send(server, "/console/login", {"secret": SECRET}).headers["set-cookie"].split(";")[0]
    page = server.get("/console", peer=STRANGER, Cookie=cookie).text()
    return cookie, re.findall(r'name="token" value="([0-9a-f]+)"', page)[0]


class LoginTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def test_secret_opens_the_console(self) -> None:
        """The management secret begins a session, whose cookie no script reads and no other site sends."""
        reply = send(self.server, "/console/login", {"secret": SECRET})
        self.assertEqual((303, "../console"), (reply.status, reply.headers["location"]))
        self.assertRegex(
            reply.headers["set-cookie"], rf"^{COOKIE}=\S+; Path=/; Max-Age={LIFETIME_S}; HttpOnly; SameSite=Strict$"
        )
        cookie, _ = log_in(self.server)
        self.assertIn("<h2", self.server.get("/console", peer=STRANGER, Cookie=cookie).text())
        self.assertIn('type="password"', self.server.get("/console", peer=STRANGER).text())

    def test_cookie_of_encrypted_doors(self) -> None:
        """Over HTTPS the cookie goes over nothing else."""
        wire = Wire(self.server.site, STRANGER, is_encrypted=True)
        body = urlencode({"secret": SECRET}).encode()
        wire.request("POST", "/console/login", body, Origin="https://localhost:8080")
        self.assertTrue(wire.reply("POST").headers["set-cookie"].endswith("; Secure"))

    def test_wrong_secrets_are_slowed(self) -> None:
        """A wrong secret is refused on the page, and too many of them are not even looked at, as by the API."""
        for _ in range(self.server.policy.max_wrong_secrets):
            reply = send(self.server, "/console/login", {"secret": "guess"})
            self.assertEqual(401, reply.status)
            self.assertIn("The secret is wrong", reply.text())
            self.assertNotIn("set-cookie", reply.headers)
        late = send(self.server, "/console/login", {"secret": SECRET})
        self.assertEqual(429, late.status)
        self.assertIn("retry-after", late.headers)
        self.assertEqual(429, self.server.get("/api/v1/streams", peer=STRANGER, Authorization="Bearer x").status)

    @slow
    def test_forms_of_other_origins(self) -> None:
        """A page of another origin cannot log a browser in, nor one that does not say where it comes from."""
        for origin in ("https://evil.example", "null", ""):
            reply = send(self.server, "/console/login", {"secret": SECRET}, origin)
            self.assertEqual(403, reply.status, origin)
            self.assertNotIn("set-cookie", reply.headers)

    def test_pages_run_our_files_only(self) -> None:
        """Both pages run under a policy without exceptions, in no frame, and are kept by no cache."""
        cookie, _ = log_in(self.server)
        for headers in ({}, {"Cookie": cookie}):
            reply = self.server.get("/console", peer=STRANGER, **headers)
            policy = reply.headers["content-security-policy"]
            self.assertIn("default-src 'none'; script-src 'self';", policy)
            self.assertIn("form-action 'self'; frame-ancestors 'none'", policy)
            self.assertNotIn("unsafe", policy)
            self.assertEqual(("no-store", "DENY"), (reply.headers["cache-control"], reply.headers["x-frame-options"]))
            self.assertNotRegex(reply.text(), r"\son[a-z]+=|style=|<script>|<style")
            for path in re.findall(r'(?:src|href)="(/[^"#]+)"', reply.text()):
                self.assertEqual(200, self.server.get(path, peer=STRANGER).status, path)


class SessionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.server.live()
        self.cookie, self.token = log_in(self.server)

    def post(self, path: str, **headers: str) -> int:
        return self.server.post(path, {}, peer=STRANGER, Cookie=self.cookie, **headers).status

    @slow
    def test_session_reads_the_api(self) -> None:
        """With its cookie a page of ours reads the API; without, or for a page of another origin, none does."""
        self.assertEqual(200, self.server.get("/api/v1/streams", peer=STRANGER, Cookie=self.cookie).status)
        self.assertEqual(401, self.server.get("/api/v1/streams", peer=STRANGER).status)
        for headers in ({"Origin": "https://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
            reply = self.server.get("/api/v1/streams", peer=STRANGER, Cookie=self.cookie, **headers)
            self.assertEqual(403, reply.status)

    def test_changes_need_origin_and_token(self) -> None:
        """What changes something needs the token of a page of the session, and that it says to come from one."""
        stop = "/api/v1/streams/k/stop"
        self.assertEqual(403, self.post(stop))
        self.assertEqual(403, self.post(stop, Origin=HERE))
        self.assertEqual(403, self.post(stop, X_RapidRTMP_Token=self.token))
        self.assertEqual(403, self.post(stop, Origin=HERE, X_RapidRTMP_Token="0" * 64))
        self.assertEqual(403, self.post(stop, Origin="https://evil.example", X_RapidRTMP_Token=self.token))
        self.assertEqual(200, self.post(stop, Origin=HERE, X_RapidRTMP_Token=self.token))

    def test_log_out_ends_the_session(self) -> None:
        """Logging out takes the cookie back and ends the session, which a page elsewhere cannot do."""
        fields = {"token": self.token}
        self.assertEqual(403, send(self.server, "/console/logout", {}, Cookie=self.cookie).status)
        self.assertEqual(403, send(self.server, "/console/logout", fields, "null", Cookie=self.cookie).status)
        self.assertEqual(200, self.server.get("/api/v1/streams", peer=STRANGER, Cookie=self.cookie).status)
        reply = send(self.server, "/console/logout", fields, Cookie=self.cookie)
        self.assertEqual(303, reply.status)
        self.assertIn(f"{COOKIE}=; Path=/; Max-Age=0", reply.headers["set-cookie"])
        self.assertEqual(401, self.server.get("/api/v1/streams", peer=STRANGER, Cookie=self.cookie).status)

    def test_sessions_are_not_made_up(self) -> None:
        """A cookie that is no session of ours, or is over, admits no client and breaks nothing."""
        session = self.cookie.partition("=")[2]
        later = f"9{session}"
        for value in (later, session[:-1], f"{session}0", "", "..", "1.2.3", "ä", '"', "x" * 3000):
            reply = self.server.get("/api/v1/streams", peer=STRANGER, Cookie=f"{COOKIE}={value}")
            self.assertEqual(401, reply.status, value)

    def test_code_of_a_publish_url(self) -> None:
        """A publish URL is drawn as a code; an empty text, or one that is too long, is not."""
        headers = {"Origin": HERE, "X_RapidRTMP_Token": self.token, "Cookie": self.cookie}
        text = "rtmp://host/live/k?token=t"
        reply = self.server.post("/console/code", {"text": text}, peer=STRANGER, **headers)
        self.assertEqual((200, "image/svg+xml"), (reply.status, reply.headers["content-type"]))
        self.assertIn("<svg", reply.text())
        for text in ("", "x" * 1501, "a b", "ä", "x\n"):
            self.assertEqual(400, self.server.post("/console/code", {"text": text}, peer=STRANGER, **headers).status)
        self.assertEqual(401, self.server.post("/console/code", {"text": "x"}, peer=STRANGER).status)


class LifetimeTests(SynchronousTestCase):
    def test_session_holds_for_its_time(self) -> None:
        """A session holds over a restart of the server, until its time or the secret is over."""
        now, key = EPOCH_MS, b"key"
        session = Sessions(lambda: key, lambda: now).begin()
        again = Sessions(lambda: key, lambda: now)
        self.assertTrue(again.is_good(session))
        self.assertTrue(again.is_page_token(session, again.page_token(session)))
        self.assertFalse(Sessions(lambda: b"another", lambda: now).is_good(session))
        self.assertFalse(Sessions(lambda: None, lambda: now).is_good(session))
        now += LIFETIME_S * 1000
        self.assertFalse(again.is_good(session))


class DoorTests(SynchronousTestCase):
    def test_console_is_where_management_is(self) -> None:
        """Where management has a door of its own the console is there, and nothing of it at the public one."""
        server = Server(has_management_door=True)
        for path in ("/console", "/console/static/console.js", "/console/login"):
            self.assertEqual(404, server.get(path, peer=STRANGER).status, path)
        wire = Wire(server.management, STRANGER)
        wire.request("GET", "/console")
        self.assertEqual(200, wire.reply().status)
        wire.request("GET", "/console/static/console.js")
        self.assertEqual(200, wire.reply().status)
