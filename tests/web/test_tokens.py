"""Tokens to publish and to watch with, through the whole HTTP side."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.auth.keys import FixedKeys
from rapidrtmp.auth.token import TokenAuthenticator
from rapidrtmp.interfaces import Action, PublishRequest, TokenTerms
from rapidrtmp.names import StreamName
from tests.web.kit import MP4, Encoder, Reply, Server, playlist

CAMERA = StreamName("live", "k")


class GuardedCase(SynchronousTestCase):
    """A server whose application `live` needs tokens to watch and to publish."""

    def setUp(self) -> None:
        self.server = self.make()
        self.stream = self.server.live()
        self.stream.shelf.put_playlist("index.m3u8", playlist())
        self.stream.shelf.put("master.m3u8", [b"#EXTM3U\n"], "application/vnd.apple.mpegurl", "public, max-age=1")
        self.stream.shelf.put("part.m4s", [b"moof"], MP4)

    def make(self, **more: Any) -> Server:
        self.tokens = TokenAuthenticator(FixedKeys([b"the key of the server"]), lambda: self.server.utc_ms())
        server = Server(judge=self.tokens, **more)
        server.apps["live"].authenticator = self.tokens
        return server

    def issue(self, key: str = "k", lifetime_s: int = 60, **terms: Any) -> str:
        return self.tokens.issue_token(StreamName("live", key), lifetime_s, TokenTerms(Action.PLAY, **terms))

    def advance(self, seconds: float) -> None:
        self.server.clock.advance(seconds)

    def grant(self, **asked: Any) -> Any:
        reply = self.server.post("/api/v1/play", {"streamKey": "k", **asked})
        self.assertEqual(200, reply.status, reply.body)
        return reply.json()

    def refusal(self, path: str, **asked: Any) -> str:
        reply = self.server.post(path, {"streamKey": "k", **asked})
        self.assertEqual(400, reply.status, reply.body)
        return str(reply.json()["error"])


class GrantTests(GuardedCase):
    def test_play_token_comes_with_urls(self) -> None:
        """Who manages the server gets a token to watch with, and the URLs that carry it."""
        grant = self.grant(expiresIn="1m")
        token = grant["token"]
        self.assertEqual(f"http://localhost:8080/live/k/~{token}/", grant["watchUrl"])
        self.assertEqual(f"http://localhost:8080/live/k/~{token}/index.m3u8", grant["playlistUrl"])
        self.assertRegex(grant["expiresAt"], r"^20\d\d-.*Z$")
        self.assertEqual(f"http://localhost:8080/live/k.flv?token={token}", grant["flvUrl"])
        self.assertEqual(f"rtmp://localhost:1935/live/k?token={token}", grant["rtmpUrl"])
        for url in (grant["watchUrl"], grant["playlistUrl"]):
            self.assertEqual(200, self.server.get(url.removeprefix("http://localhost:8080")).status)

    def test_open_watching_has_empty_token(self) -> None:
        """Where watching is open the token is empty and the URLs are those of all."""
        reply = self.server.post("/api/v1/play", {"streamKey": "k", "app": "open"})
        self.assertEqual(
            ("", "http://localhost:8080/open/k", "http://localhost:8080/open/k/index.m3u8"),
            tuple(reply.json()[name] for name in ("token", "watchUrl", "playlistUrl")),
        )
        self.assertEqual(
            ("http://localhost:8080/open/k.flv", "rtmp://localhost:1935/open/k"),
            tuple(reply.json()[name] for name in ("flvUrl", "rtmpUrl")),
        )

    def test_bad_terms_are_refused(self) -> None:
        """Terms that make no sense are refused by name."""
        for name, values in {
            "expiresIn": (0, "x", 10**9, True, [1]),
            "network": ("x", 3, "10.0.0.0/40"),
            "maxPlayers": (0, -1, "3", True, 65_536, 1.5),
            "singleUse": ("x", -1, 100_000, []),
            "streams": ("a b", "other-*", 3, "live/*/x", "radio/*"),
        }.items():
            for value in values:
                self.assertIn(name, self.refusal("/api/v1/play", **{name: value}), value)

    def test_null_says_nothing_at_all(self) -> None:
        """``null`` says nothing."""
        self.grant(expiresIn=None, network=None, maxPlayers=None, singleUse=None, streams=None)

    def test_network_binds_the_token(self) -> None:
        """A token for a network lets no other address watch, and one that was tried elsewhere is still good there."""
        path = f"/live/k/~{self.grant(network='192.0.2.0/24')['token']}/index.m3u8"
        self.assertEqual(403, self.server.get(path, peer="198.51.100.1").status)
        self.assertEqual(200, self.server.get(path, peer="192.0.2.1").status)

    def test_pattern_of_streams_is_granted(self) -> None:
        """A token for a pattern of streams is good for all of them."""
        token = self.grant(streams="k*")["token"]
        self.server.live("k2").shelf.put_playlist("index.m3u8", playlist())
        self.assertEqual(200, self.server.get(f"/live/k2/~{token}/index.m3u8").status)
        self.assertEqual(403, self.server.get(f"/live/other/~{token}/index.m3u8").status)

    def test_max_players_use_a_token(self) -> None:
        """As many players as asked for use a token at one time."""
        path = f"/live/k/~{self.grant(maxPlayers=2)['token']}/index.m3u8"
        statuses = [self.server.get(path, peer=f"192.0.2.{number}").status for number in (1, 2, 3, 1)]
        self.assertEqual([200, 200, 429, 200], statuses)

    def test_publish_for_one_session(self) -> None:
        """A token to publish with says that it is for one session."""
        reply = self.server.post("/api/v1/publish", {"streamKey": "k", "singleUse": "2m", "network": "192.0.2.0/24"})
        request = PublishRequest(CAMERA, reply.json()["token"], {}, "192.0.2.1")
        self.assertEqual(120, self.tokens.authorize_publish(request).reconnect_s)

    def test_secret_key_stays_in_publish_urls(self) -> None:
        """Where keys are secret the publish URL has the key, all else the public name, which the token is for."""
        self.server.apps["live"].names = {"s3cret": "k"}
        reply = self.server.post("/api/v1/publish", {"streamKey": "s3cret"})
        grant = reply.json()
        self.assertIn("/live/s3cret?token=", grant["publishUrl"])
        self.assertEqual(("k", "http://localhost:8080/live/k"), (grant["streamKey"], grant["watchUrl"]))
        self.assertTrue(self.tokens.authorize_publish(PublishRequest(CAMERA, grant["token"], {}, "192.0.2.1")).allowed)
        reply = self.server.post("/api/v1/publish", {"streamKey": "other"})
        self.assertEqual(404, reply.status)
        self.assertNotIn("other", reply.text())

    def test_unknown_application_has_no_tokens(self) -> None:
        """There are tokens of applications that exist only."""
        for path in ("/api/v1/play", "/api/v1/tokens/revoke"):
            self.assertEqual(404, self.server.post(path, {"streamKey": "k", "app": "none"}).status)

    def test_needs_the_secret(self) -> None:
        """Strangers get no tokens, and revoke none."""
        for path in ("/api/v1/play", "/api/v1/tokens/revoke"):
            self.assertEqual(401, self.server.post(path, {"streamKey": "k"}, peer="192.0.2.1").status)


class WatchTests(GuardedCase):
    def test_statuses_by_kind_of_token(self) -> None:
        """Without or with an expired token 401, with one for something else 403, with a good one all there is."""
        good, brief, other = self.issue(), self.issue(lifetime_s=1), self.issue("other")
        publish = self.tokens.issue_token(CAMERA, 60, TokenTerms())
        self.advance(2)
        for name in ("index.m3u8", "part.m4s", "master.m3u8", "none.m4s", "clip.mp4", ""):
            expected = {"none.m4s": 404, "clip.mp4": 404}.get(name, 200)
            for element, status in (
                ("" if name else None, 401),
                (f"~{good}/", expected),
                (f"~{brief}/", 401),
                ("~nonsense/", 401),
                (f"~{other}/", 403),
                (f"~{publish}/", 403),
            ):
                if element is not None:
                    reply = self.server.get(f"/live/k/{element}{name}")
                    self.assertEqual(status, reply.status, (name, element))
                    if status == 401:
                        self.assertEqual("Bearer", reply.headers["www-authenticate"])
                    if status in (401, 403):
                        self.assertEqual("no-store", reply.headers["cache-control"])

    def test_pages_say_it_in_words(self) -> None:
        """A browser is shown a page that says why it may not watch."""
        html = {"Accept": "text/html"}
        for path, status, words in (
            ("/live/k", 401, "token is needed"),
            (f"/live/k/~{self.issue('other')}/", 403, "another stream"),
            ("/live/k/~x/", 401, "not one of this server"),
        ):
            reply = self.server.get(path, **html)
            self.assertEqual((status, "text/html; charset=utf-8"), (reply.status, reply.headers["content-type"]))
            self.assertIn(words, reply.text())

    def test_page_names_no_token(self) -> None:
        """The page is the same for every token and names none; what it needs it finds from where it is."""
        pages = [self.server.get(f"/live/k/~{self.issue()}/") for _ in range(2)]
        self.assertEqual(pages[0].body, pages[1].body)
        self.assertIn('data-media="index.m3u8"', pages[0].text())
        self.assertIn('src="../../../static/player.js"', pages[0].text())
        self.assertEqual("private, no-cache", pages[0].headers["cache-control"])

    def test_page_without_slash(self) -> None:
        """The page's URL without its last slash leads to it."""
        reply = self.server.get("/live/k/~abc")
        self.assertEqual((307, "~abc/"), (reply.status, reply.headers["location"]))

    def test_query_token_is_led_into_path(self) -> None:
        """A token in the query is led into the path before it is judged, whatever it is, and other fields stay."""
        for path, location in (
            ("/live/k?token=T", "k/~T/"),
            ("/live/k/?token=T", "~T/"),
            ("/live/k.m3u8?token=T", "k/~T/index.m3u8"),
            ("/live/k/index.m3u8?token=T", "~T/index.m3u8"),
            ("/live/k/index.m3u8?_HLS_msn=4&token=T&_HLS_part=1", "~T/index.m3u8?_HLS_msn=4&_HLS_part=1"),
            ("/live/k/~OLD/index.m3u8?token=T", "../~T/index.m3u8"),
            ("/live/k/~OLD/?token=T", "../~T/"),
            ("/live/none/master.m3u8?token=T", "~T/master.m3u8"),
            ("/live/k/index.m3u8?token=a%2Fb%20%3F", "~a%2Fb%20%3F/index.m3u8"),
            ("/recordings/live/k/20261130T100000Z/index.m3u8?token=T", "../~T/20261130T100000Z/index.m3u8"),
            ("/recordings/live/k/clip.m3u8?from=-9s&token=T", "~T/clip.m3u8?from=-9s"),
        ):
            reply = self.server.get(path)
            self.assertEqual((307, location), (reply.status, reply.headers.get("location")), path)
            self.assertEqual("no-store", reply.headers["cache-control"])

    def test_no_redirect_without_a_token(self) -> None:
        """An empty token is none, and where watching is open a token in the query changes nothing."""
        self.assertEqual(401, self.server.get("/live/k/index.m3u8?token=").status)
        self.server.live(app="open").shelf.put_playlist("index.m3u8", playlist())
        for path in ("/open/k/index.m3u8", "/open/k"):
            plain, with_token = self.server.get(path), self.server.get(f"{path}?token=T")
            self.assertEqual((200, plain.body), (with_token.status, with_token.body))

    def test_recordings_need_a_token(self) -> None:
        """Recordings of a stream need a token as the stream does."""
        good, path = self.issue(), "20261130T100000Z/index.m3u8"
        self.assertEqual(401, self.server.get(f"/recordings/live/k/{path}").status)
        self.assertEqual(403, self.server.get(f"/recordings/live/k/~{self.issue('other')}/{path}").status)
        self.assertEqual(404, self.server.get(f"/recordings/live/k/~{good}/{path}").status)
        self.assertEqual(400, self.server.get(f"/recordings/live/k/~{good}/clip.m3u8").status)
        self.assertEqual(401, self.server.get("/recordings/live/k/clip.m3u8").status)

    def test_authorization_header_is_a_token(self) -> None:
        """A player that can sends its token in a header; what it gets may be kept by no cache that others use."""
        for field in (f"Bearer {self.issue()}", f"bearer  {self.issue()}"):
            for path in ("/live/k/index.m3u8", "/live/k/part.m4s", "/live/k"):
                reply = self.server.get(path, Authorization=field)
                self.assertEqual(200, reply.status)
                self.assertTrue(reply.headers["cache-control"].startswith("private"), reply.headers)
        basic = base64.b64encode(b"name:password").decode()
        for field in ("Bearer", "Basic x", f"Basic {basic}", "Digest x", "Basic /w=="):
            self.assertEqual(401, self.server.get("/live/k/index.m3u8", Authorization=field).status)

    def test_same_bytes_for_every_token(self) -> None:
        """Playlists and media are the same, bytes and fields, for every token."""
        for name in ("index.m3u8", "part.m4s", "master.m3u8"):
            one, other = (self.server.get(f"/live/k/~{self.issue()}/{name}") for _ in range(2))
            self.assertEqual((200, one.body), (one.status, other.body))
            self.assertEqual({**one.headers, "date": ""}, {**other.headers, "date": ""})

    def test_expiry_ends_watching(self) -> None:
        """When a token expires its player is refused, also one that was waiting for more."""
        path = f"/live/k/~{self.issue(lifetime_s=10)}/index.m3u8"
        self.assertEqual(200, self.server.get(path).status)
        wire = self.server.connect()
        wire.request("GET", f"{path}?_HLS_msn=10")
        self.advance(5.5)
        self.assertEqual(200, self.server.get(path).status)
        self.assertFalse(wire.is_answered)
        self.advance(4.5)
        self.assertEqual(401, self.server.get(path).status)
        self.advance(0.4)

    def test_revocation_ends_waiting(self) -> None:
        """A player that waits for the next part when its token is revoked does not get it."""
        token = self.issue()
        wire = self.server.connect()
        wire.request("GET", f"/live/k/~{token}/index.m3u8?_HLS_msn=10")
        self.server.post("/api/v1/tokens/revoke", {"token": token})
        self.advance(2)
        self.stream.shelf.put_playlist("index.m3u8", playlist(10))
        self.assertEqual(401, wire.reply().status)

    @given(st.binary(min_size=1, max_size=80))
    def test_any_token_is_answered_in_words(self, data: bytes) -> None:
        """Whatever stands for a token, the answer is an error in words, and never that of a bug."""
        element = "".join(f"%{byte:02x}" for byte in data)
        reply: Reply = self.server.get(f"/live/k/~{element}/index.m3u8")
        self.assertIn(reply.status, (400, 401, 404))


class RevocationTests(GuardedCase):
    def get(self, token: str) -> int:
        return self.server.get(f"/live/k/~{token}/index.m3u8").status

    def test_revoked_token_ends_within_seconds(self) -> None:
        """A revoked token watches no more within five seconds, and others do."""
        one, other = self.issue(), self.issue()
        self.assertEqual([200, 200], [self.get(one), self.get(other)])
        reply = self.server.post("/api/v1/tokens/revoke", {"token": one})
        self.assertEqual((200, {"revoked": "token"}), (reply.status, reply.json()))
        self.advance(4.9)
        self.assertEqual([401, 200], [self.get(one), self.get(other)])

    def test_revoked_stream_ends_all_tokens(self) -> None:
        """All of a stream issued up to now are revoked, and later ones are good."""
        before = self.issue()
        self.get(before)
        reply = self.server.post("/api/v1/tokens/revoke", {"streamKey": "k"})
        self.assertEqual({"revoked": "live/k"}, reply.json())
        self.advance(4.9)
        self.assertEqual([401, 200], [self.get(before), self.get(self.issue())])

    def test_bodies_name_token_or_stream(self) -> None:
        """Either a token or a stream is revoked, and nothing else."""
        for body in ({}, {"token": ""}, {"token": "a", "streamKey": "k"}, {"token": 3}, {"token": "a" * 9000}, []):
            self.assertEqual(400, self.server.post("/api/v1/tokens/revoke", body).status, body)

    def test_stop_keeps_the_publisher_out(self) -> None:
        """A publisher that is stopped for good cannot come back with the same token."""
        self.stream.fingerprint = "the publisher's"
        reply = self.server.post("/api/v1/streams/k/stop", {"revoke": True})
        self.assertEqual(200, reply.status)
        self.assertIn("revoked", self.server.revocations.refusal(CAMERA, "the publisher's", None))

    def test_stop_alone_revokes_nothing(self) -> None:
        """One that is stopped without that can."""
        for key, body in (("a", None), ("b", {}), ("c", {"revoke": False})):
            self.server.registry.claim(StreamName("live", key), Encoder()).fingerprint = key
            self.assertEqual(200, self.server.post(f"/api/v1/streams/{key}/stop", body).status)
            self.assertEqual("", self.server.revocations.refusal(CAMERA, key, None))
        self.assertEqual(400, self.server.post("/api/v1/streams/k/stop", {"revoke": "yes"}).status)
