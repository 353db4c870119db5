import json
from dataclasses import fields
from datetime import datetime

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.live.health import diagnose
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.timeline.health import PublishHealth
from tests.web.kit import EPOCH_MS, Encoder, Reply, Server, Wire


class ApiTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(default_expiration_s=3600, max_expiration_s=86_400)

    def assert_error(self, status: int, words: str, reply: Reply) -> None:
        self.assertEqual(status, reply.status, reply)
        self.assertEqual(["error"], list(reply.json()))
        self.assertIn(words, reply.json()["error"])
        self.assertEqual("application/json", reply.headers["content-type"])


class PublishTests(ApiTestCase):
    def publish(self, **fields: object) -> Reply:
        return self.server.post("/api/v1/publish", fields)

    def test_grant_has_url_token_and_expiry(self) -> None:
        """A caller gets a URL to publish to, the token in it, and until when it is good."""
        reply = self.publish(streamKey="show")
        self.assertEqual(200, reply.status)
        self.assertEqual("no-store", reply.headers["cache-control"])
        token = "secret-live-show-3600"
        self.assertEqual(
            {
                "publishUrl": f"rtmp://localhost:1935/live/show?token={token}",
                "server": "rtmp://localhost:1935/live",
                "key": f"show?token={token}",
                "watchUrl": "http://localhost:8080/live/show",
                "streamKey": "show",
                "token": token,
                "expiresAt": "2023-11-14T23:30:00.000Z",
            },
            reply.json(),
        )
        expires = datetime.fromisoformat(reply.json()["expiresAt"]).timestamp()
        self.assertEqual((EPOCH_MS / 1000) + 1000 + 3600, expires)

    def test_grant_through_an_ordinary_client(self) -> None:
        """An ordinary HTTP client gets on with it."""
        treq = self.server.treq
        response = self.successResultOf(treq.post("http://localhost/api/v1/publish", json={"streamKey": "show"}))
        self.assertEqual(200, response.code)
        self.assertEqual("show", self.successResultOf(treq.json_content(response))["streamKey"])

    def test_lifetimes_in_seconds_or_durations(self) -> None:
        """How long a token lives is said in seconds or as a duration, or left to the operator."""
        for value, seconds in (
            (None, 3600),
            (60, 60),
            ("60", 60),
            ("90s", 90),
            ("1h", 3600),
            ("1h30m", 5400),
            (86_400, 86_400),
        ):
            self.assertEqual(f"secret-live-k-{seconds}", self.publish(streamKey="k", expiresIn=value).json()["token"])

    def test_bad_lifetimes_are_refused(self) -> None:
        """A lifetime that is none, or longer than allowed, is refused with the field and the limit."""
        for value in (0, -1, "0s", "", "soon", "500ms", 1.5, True, [], {}, "-1h"):
            self.assert_error(400, "expiresIn", self.publish(streamKey="k", expiresIn=value))
        self.assert_error(400, "the longest allowed is 86400", self.publish(streamKey="k", expiresIn=86_401))
        self.assert_error(400, "the longest allowed is 86400", self.publish(streamKey="k", expiresIn="2d"))

    def test_default_lifetime_is_bounded(self) -> None:
        """A default above the maximum gives the maximum."""
        server = Server(default_expiration_s=3600, max_expiration_s=60)
        self.assertEqual("secret-live-k-60", server.post("/api/v1/publish", {"streamKey": "k"}).json()["token"])

    def test_bad_bodies_are_refused(self) -> None:
        """A body that is not as described is refused with what is wrong with it."""
        for body, words in (
            (b"", "not JSON"),
            (b"{", "not JSON"),
            (b"\xff\xfe", "not JSON"),
            (b"[" * 50_000, "not JSON"),
            (b"[]", "not a JSON object"),
            (b'"k"', "not a JSON object"),
            (b"{}", "streamKey"),
            (b'{"streamKey": 1}', "streamKey"),
            (b'{"streamKey": null}', "streamKey"),
            (b'{"streamKey": "k", "app": 1}', "app"),
        ):
            self.assert_error(400, words, self.server.request("POST", "/api/v1/publish", body))

    def test_bad_names_are_refused(self) -> None:
        """A key or application that cannot be one is refused in words."""
        for key in ("", "a/b", "../x", ".x", "a b", "k" * 129, "k?token=1", "caf\u00e9"):
            self.assert_error(400, "stream key", self.publish(streamKey=key))
        for app in ("", "a/b", "api"):
            self.assert_error(400, "application", self.publish(streamKey="k", app=app))

    def test_only_applications_with_tokens_grant(self) -> None:
        """Only an application that there is, and that uses such tokens, gives one."""
        self.assert_error(404, "'nowhere'", self.publish(streamKey="k", app="nowhere"))
        self.assert_error(409, "'open'", self.publish(streamKey="k", app="open"))

    def test_url_names_the_configured_host(self) -> None:
        """The URL names the configured host, else the one that was asked, never what is not a host."""
        cases = (
            ({}, "localhost:8080", "rtmp://localhost:1935/"),
            ({}, "127.0.0.1:8080", "rtmp://127.0.0.1:1935/"),
            ({}, "[::1]:8080", "rtmp://[::1]:1935/"),
            ({"rtmp_port": 1936}, "localhost", "rtmp://localhost:1936/"),
            ({"rtmp_port": 0}, "localhost:8080", "rtmp://localhost/"),  # on a UNIX socket, behind a proxy
            ({"public_rtmp": "in.example.com"}, "localhost:8080", "rtmp://in.example.com/"),
            ({"public_rtmp": "in.example.com:1999"}, "localhost:8080", "rtmp://in.example.com:1999/"),
        )
        for policy, host, expected in cases:
            reply = Server(**policy).post("/api/v1/publish", {"streamKey": "k"}, Host=host)
            self.assertEqual(f"{expected}live/k?token=secret-live-k-3600", reply.json()["publishUrl"])

    def test_encrypted_door_is_named(self) -> None:
        """Where RTMP is taken over TLS alone, publishers are sent there."""
        reply = Server(rtmp_is_encrypted=True).post("/api/v1/publish", {"streamKey": "k"})
        self.assertEqual("rtmps://localhost:1935/live", reply.json()["server"])

    def test_watch_address_is_configured_or_asked(self) -> None:
        """Viewers come to the configured URL, else to the door that was asked, else to the public one."""
        proxied = {"trusted_proxies": ("127.0.0.1",)}
        https = {"X_Forwarded_Proto": "https", "Authorization": "Bearer made-on-first-start"}
        cases = (
            ({}, {}, "http://localhost:8080"),
            ({}, https, "http://localhost:8080"),
            (proxied, https, "https://localhost:8080"),
            ({"public_http": "https://a.example/media"}, {}, "https://a.example/media"),
        )
        for policy, headers, expected in cases:
            reply = Server(**policy).post("/api/v1/publish", {"streamKey": "k"}, **headers)
            self.assertEqual(f"{expected}/live/k", reply.json()["watchUrl"])
        wire = Wire(Server(has_management_door=True).management)
        wire.request("POST", "/api/v1/publish", b'{"streamKey": "k"}', Host="localhost:9080")
        self.assertEqual("https://localhost:8443/live/k", wire.reply().json()["watchUrl"])

    def test_body_limit_is_inclusive(self) -> None:
        """A body beyond the limit is refused, and so is no body at the limit."""
        server = Server(max_body_bytes=100)
        self.assert_error(413, "100 bytes", server.request("POST", "/api/v1/publish", b" " * 101))
        self.assert_error(413, "100 bytes", server.request("POST", "/api/v1/publish", b" " * 1_000_000))
        body = json.dumps({"streamKey": "k"}).encode().ljust(100)
        self.assertEqual(200, server.request("POST", "/api/v1/publish", body).status)


class StreamsTests(ApiTestCase):
    def streams(self, query: str = "") -> Reply:
        return self.server.get(f"/api/v1/streams{query}")

    def keys(self, query: str = "") -> list[str]:
        return [stream["streamKey"] for stream in self.streams(query).json()["streams"]]

    def test_empty_server_lists_nothing(self) -> None:
        """A server on which nothing is live lists nothing."""
        self.assertEqual({"streams": [], "total": 0}, self.streams().json())

    def test_facts_come_from_the_bitstream(self) -> None:
        """A stream is described by what was measured and what its bitstream says."""
        self.server.live()
        self.server.clock.advance(2.5)
        told = self.server.get("/api/v1/streams/k").json()
        self.assertEqual(told, self.streams().json()["streams"][0])
        expected = {
            "streamKey": "k",
            "app": "live",
            "active": True,
            "state": "live",
            "viewers": 0,
            "players": {"rtmp": 0, "http": 0, "websocket": 0},
            "startedAt": "2023-11-14T22:30:00.000Z",
            "duration": 2.5,
            "videoCodec": "avc1.64001f",
            "audioCodec": "mp4a.40.2",
            "resolution": "1280x720",
            "bitrate": 60_000,  # 240,000 in the first second, and nothing since
            "frameRate": 30.0,
            "audioSampleRate": 48_000,
            "audioChannels": 2,
            "keyframes": 1,
            "frames": 30,
            "bytesReceived": 30_000,
            "discontinuities": 0,
            "tracks": [
                {
                    "id": 1,
                    "kind": "video",
                    "codec": "avc1.64001f",
                    "codecName": "H.264",
                    "language": "und",
                    "name": "",
                    "width": 1280,
                    "height": 720,
                    "frameRate": 30.0,
                    "keyframeInterval": 0.0,
                },
                {
                    "id": 2,
                    "kind": "audio",
                    "codec": "mp4a.40.2",
                    "codecName": "AAC",
                    "language": "und",
                    "name": "",
                    "sampleRate": 48_000,
                    "channels": 2,
                },
            ],
            "renditions": [],
            "sinks": [],
            "playbackUrl": "/live/k/index.m3u8",
            "pageUrl": "/live/k",
            "peer": "192.0.2.7",
            "health": {"verdict": "unknown", "findings": []},
            "metadata": {},
        }
        self.assertEqual(expected, told)

    def test_health_is_reported_with_advice(self) -> None:
        """What is wrong with a publish is reported with advice, and with the numbers behind it."""
        stream = self.server.live()
        stream.health = PublishHealth(**{each.name: False for each in fields(PublishHealth)} | {"audio_missing": True})
        stream.findings = diagnose(stream.health, None)
        health = self.server.get("/api/v1/streams/k").json()["health"]
        self.assertEqual("attention", health["verdict"])
        self.assertEqual(["audio_missing"], [finding["kind"] for finding in health["findings"]])
        self.assertEqual((True, 0), (health["audioMissing"], health["keyframeIntervalMaxMs"]))
        stream.findings = ()
        self.assertEqual("good", self.server.get("/api/v1/streams/k").json()["health"]["verdict"])

    def test_key_alone_means_live(self) -> None:
        """A key alone means the application live; others are named."""
        self.server.live("k", "open")
        self.assertEqual(404, self.server.get("/api/v1/streams/k").status)
        self.assertEqual("open", self.server.get("/api/v1/streams/open/k").json()["app"])

    def test_starting_stream_claims_nothing(self) -> None:
        """Of a stream that has not sent anything, nothing is claimed."""
        self.server.publish()
        told = self.server.get("/api/v1/streams/k").json()
        self.assertEqual(("starting", True), (told["state"], told["active"]))
        for name in ("videoCodec", "audioCodec", "resolution", "audioSampleRate", "audioChannels"):
            self.assertIsNone(told[name], name)

    def test_interrupted_and_ended(self) -> None:
        """A stream without its publisher is not active; when it has ended it stays as long as it lasted."""
        stream = self.server.live()
        assert stream.publisher is not None
        self.server.registry.release(stream, stream.publisher)
        told = self.server.get("/api/v1/streams/k").json()
        self.assertEqual(("interrupted", False, None), (told["state"], told["active"], told["peer"]))
        self.server.clock.advance(10)
        told = self.server.get("/api/v1/streams/k").json()
        self.assertEqual(("ended", False, 1.0), (told["state"], told["active"], told["duration"]))

    def test_metadata_is_shown_as_json(self) -> None:
        """What an encoder says of itself is shown as far as JSON can say it, and no further."""
        stream = self.server.live()
        stream.metadata = {
            "encoder": "obs",
            "stereo": True,
            "width": 1280.0,
            "nan": float("nan"),
            "infinite": float("inf"),
            "date": datetime(2026, 1, 2),
            "nothing": None,
            "odd": object(),
            "surrogate": "\ud800",
            "deep": {"a": {"b": {"c": {"d": 1}}}},
            "list": [1, {"a": 2}],
            "long": "x" * 5000,
            "wide": list(range(1000)),
        }
        told = self.server.get("/api/v1/streams/k").json()["metadata"]
        self.assertEqual(
            {
                "encoder": "obs",
                "stereo": True,
                "width": 1280.0,
                "nan": None,
                "infinite": None,
                "date": "2026-01-02 00:00:00",
                "nothing": None,
                "odd": None,
                "surrogate": "?",
                "deep": {"a": {"b": {"c": None}}},
                "list": [1, {"a": 2}],
                "long": "x" * 512,
                "wide": list(range(64)),
            },
            told,
        )

    def test_no_secret_is_listed(self) -> None:
        """Nothing that is listed tells what the publisher gave to be let in."""
        self.server.live()
        self.assertNotIn(b"the-credential", self.streams().body)
        self.assertNotIn(b"secret", self.streams().body)

    def test_list_comes_in_pages(self) -> None:
        """A long list can be read page by page; the total stays that of all."""
        for number in range(7):
            self.server.publish(f"s{number}")
        cases = (
            ("", range(7)),
            ("?itemsPerPage=3", range(3)),
            ("?itemsPerPage=3&page=1", range(3, 6)),
            ("?itemsPerPage=3&page=2", range(6, 7)),
            ("?itemsPerPage=3&page=3", range(0)),
            ("?page=0", range(7)),
        )
        for query, numbers in cases:
            self.assertEqual([f"s{number}" for number in numbers], self.keys(query), query)
            self.assertEqual(7, self.streams(query).json()["total"])

    def test_bad_pages_are_refused(self) -> None:
        """A page that is none is refused with the name of the field."""
        for query in ("?page=-1", "?page=x", "?page=", "?page=1.5", "?page=99999999999999999999"):
            self.assert_error(400, "page", self.streams(query))
        for query in ("?itemsPerPage=0", "?itemsPerPage=1001", "?itemsPerPage=x"):
            self.assert_error(400, "itemsPerPage", self.streams(query))

    def test_list_narrows_to_a_state(self) -> None:
        """The list can be narrowed to one state."""
        self.server.publish("starting")
        self.server.live("live")
        self.server.live("gone").interrupted()
        self.server.registry.end(self.server.live("over"))
        for state, key in (("starting", "starting"), ("live", "live"), ("interrupted", "gone"), ("ended", "over")):
            self.assertEqual([key], self.keys(f"?state={state}"))
            self.assertEqual(1, self.streams(f"?state={state}").json()["total"])
        self.assert_error(400, "state is not one of", self.streams("?state=dead"))

    def test_unknown_stream_is_not_found(self) -> None:
        """A stream that there is not is a 404, a name that can be none is a 400."""
        self.assert_error(404, "live/missing", self.server.get("/api/v1/streams/missing"))
        self.assert_error(404, "live/missing", self.server.post("/api/v1/streams/missing/stop"))
        self.assert_error(400, "stream key", self.server.get("/api/v1/streams/.x"))


class StopTests(ApiTestCase):
    def stop(self, path: str = "k") -> Reply:
        return self.server.post(f"/api/v1/streams/{path}/stop")

    def test_stop_closes_the_publisher(self) -> None:
        """Stopping a stream tells its publisher why, closes it, and ends the stream."""
        stream = self.server.live()
        publisher = stream.publisher
        assert isinstance(publisher, Encoder)
        reply = self.stop()
        self.assertEqual((200, "k"), (reply.status, reply.json()["streamKey"]))
        self.assertEqual(["stopped by the operator"], publisher.reasons)
        self.assertEqual("ended", self.server.get("/api/v1/streams/k").json()["state"])

    def test_stop_by_full_name(self) -> None:
        """A stream of another application is stopped by its full name."""
        stream = self.server.live("k", "open")
        self.assertEqual(404, self.stop().status)
        self.assertEqual(200, self.stop("open/k").status)
        self.assertIsNone(stream.publisher)

    def test_stopping_twice_is_refused(self) -> None:
        """What has ended cannot be stopped again."""
        self.server.live()
        self.stop()
        self.assert_error(409, "not live", self.stop())

    def test_interrupted_stream_can_be_stopped(self) -> None:
        """A stream that waits for its publisher can be stopped as well."""
        stream = self.server.live()
        assert stream.publisher is not None
        self.server.registry.release(stream, stream.publisher)
        self.assertEqual(200, self.stop().status)

    def test_stop_does_not_wait_for_sinks(self) -> None:
        """The answer does not wait for the sinks to finish."""
        self.server.live()
        self.patch(LiveStream, "finish", lambda _self: _never())
        self.assertEqual(200, self.stop().status)


class ServerTests(ApiTestCase):
    def test_liveness_is_open_to_all(self) -> None:
        """The server says that it lives, to every client."""
        for path, expected in (("/api/ping", {"message": "pong"}), ("/health", {"status": "ok"})):
            reply = self.server.get(path, peer="192.0.2.1")
            self.assertEqual((200, expected), (reply.status, reply.json()))
            self.assertEqual("no-store", reply.headers["cache-control"])

    def test_startup_is_open_to_all(self) -> None:
        """The server says whether it has come up, to every client, and does not take that back when it stops."""
        statuses = []
        for happens in (lambda: None, self.server.readiness.listening, self.server.readiness.drain):
            happens()
            statuses.append(self.server.get("/startup", peer="192.0.2.1").status)
        self.assertEqual([503, 200, 200], statuses)

    def test_readiness_has_reasons(self) -> None:
        """The server says whether it is ready, with a reason for each check, to every client."""
        reply = self.server.get("/ready", peer="192.0.2.1")
        self.assertEqual((503, False), (reply.status, reply.json()["ready"]))
        self.assertIn({"name": "listening", "ok": False, "reason": "not listening yet"}, reply.json()["checks"])
        self.server.readiness.listening()
        reply = self.server.get("/ready")
        self.assertEqual((200, True), (reply.status, reply.json()["ready"]))
        self.server.readiness.drain()
        reply = self.server.get("/ready")
        self.assertEqual(503, reply.status)
        self.assertIn({"name": "draining", "ok": False, "reason": "shutting down"}, reply.json()["checks"])

    def test_metrics_are_in_text_format(self) -> None:
        """Metrics come in the text format of Prometheus."""
        reply = self.server.get("/metrics")
        self.assertEqual("text/plain; version=0.0.4; charset=utf-8", reply.headers["content-type"])
        self.assertIn("rapidrtmp_http_requests_total", reply.text())


class ManagementTests(SynchronousTestCase):
    """Who may use the management API."""

    paths = (
        ("GET", "/api/v1/streams"),
        ("GET", "/api/v1/streams/k"),
        ("GET", "/api/v1/streams/live/k"),
        ("GET", "/metrics"),
        ("POST", "/api/v1/publish"),
        ("POST", "/api/v1/streams/k/stop"),
        ("POST", "/api/v1/streams/live/k/stop"),
    )

    def statuses(self, server: Server, peer: str = "127.0.0.1", **headers: str) -> set[int]:
        return {server.request(method, path, peer=peer, **headers).status for method, path in self.paths}

    def test_own_user_needs_no_secret(self) -> None:
        """The server's own user on this machine needs no secret; all others do, and learn what is wanted."""
        server = Server()
        self.assertFalse({401, 403} & self.statuses(server))
        self.assertEqual({401}, self.statuses(server, "192.0.2.1"))
        reply = server.get("/api/v1/streams", peer="192.0.2.1")
        self.assertEqual('Bearer realm="rapidrtmp"', reply.headers["www-authenticate"])

    def test_secret_opens_to_every_client(self) -> None:
        """With the secret every client is answered; a wrong one is refused to all, and never repeated."""
        server = Server(api_token="s3cret", max_wrong_secrets=0)
        for peer in ("127.0.0.1", "192.0.2.1"):
            self.assertFalse({401, 403} & self.statuses(server, peer, Authorization="Bearer s3cret"))
            self.assertEqual({401}, self.statuses(server, peer, Authorization="Bearer wrong"))
        reply = server.get("/api/v1/streams", peer="192.0.2.1", Authorization="Bearer s3cre")
        self.assertIn("invalid_token", reply.headers["www-authenticate"])
        self.assertNotIn(b"s3cre", reply.body)

    def test_guesses_are_refused_unread(self) -> None:
        """After so many wrong secrets from one address, or one /64, more are refused unread for a while."""
        server = Server(api_token="s3cret")
        guess = [server.get("/metrics", peer="192.0.2.1", Authorization=f"Bearer {n}") for n in range(11)]
        self.assertEqual([401] * 10 + [429], [reply.status for reply in guess])
        self.assertEqual("6", guess[-1].headers["retry-after"])
        self.assertEqual(429, server.get("/metrics", peer="192.0.2.1", Authorization="Bearer s3cret").status)
        self.assertEqual(200, server.get("/metrics", peer="192.0.2.2", Authorization="Bearer s3cret").status)
        server.clock.advance(6)
        self.assertEqual(200, server.get("/metrics", peer="192.0.2.1", Authorization="Bearer s3cret").status)

    def test_metrics_alone_can_be_opened(self) -> None:
        """The metrics, and nothing else, can be opened to every client."""
        server = Server(open_metrics=True)
        self.assertEqual(200, server.get("/metrics", peer="192.0.2.1").status)
        self.assertEqual(401, server.get("/api/v1/streams", peer="192.0.2.1").status)

    def test_pages_of_others_are_refused(self) -> None:
        """A page of another origin is never answered, neither on this machine nor with the secret."""
        server = Server(api_token="s3cret")
        stream = server.live()
        for headers in (
            {"Origin": "https://evil.example"},
            {"Origin": "null"},
            {"Sec_Fetch_Site": "cross-site"},
            {"Referer": "https://evil.example/x"},
        ):
            self.assertEqual({403}, self.statuses(server, **headers), headers)
            secret = {"Authorization": "Bearer s3cret", **headers}
            self.assertEqual({403}, self.statuses(server, "192.0.2.1", **secret), headers)
        rebound = {"Host": "evil.example:8080", "Origin": "http://evil.example:8080", "Sec_Fetch_Site": "same-origin"}
        self.assertEqual({401}, self.statuses(server, **rebound))
        self.assertIsNotNone(stream.publisher)
        for method, path in self.paths:
            for asked in ("OPTIONS", method):
                reply = server.request(asked, path, Origin="https://a.example")
                self.assertFalse({name for name in reply.headers if name.startswith("access-control")}, (asked, path))


class DoorTests(SynchronousTestCase):
    """A management API with a door of its own."""

    probes = ("/api/ping", "/health", "/ready", "/startup")

    def setUp(self) -> None:
        self.server = Server(api_token="s3cret", has_management_door=True)
        self.server.readiness.listening()
        self.server.live()

    def at_the_door(self, path: str, **headers: str) -> Reply:
        wire = Wire(self.server.management, headers.pop("peer", "192.0.2.1"))
        wire.request("GET", path, **headers)
        return wire.reply()

    def test_public_door_has_no_management(self) -> None:
        """At the public door there is no such thing, for any client; streams, pages and probes are there."""
        for path in ("/api/v1/streams", "/api/v1/openapi.json", "/metrics", "/api/v1/recordings"):
            self.assertEqual(404, self.server.get(path).status, path)
            self.assertEqual(404, self.server.get(path, Authorization="Bearer s3cret").status, path)
        self.assertEqual(404, self.server.post("/api/v1/publish", {"streamKey": "k"}).status)
        for path in ("/", "/live/k", *self.probes):
            self.assertEqual(200, self.server.get(path, peer="192.0.2.1").status, path)

    def test_management_door_has_no_streams(self) -> None:
        """At the other one are the API, guarded as ever, the metrics and the probes, which are open, and no streams."""
        self.assertEqual(401, self.at_the_door("/api/v1/streams").status)
        self.assertEqual(200, self.at_the_door("/api/v1/streams", Authorization="Bearer s3cret").status)
        self.assertEqual(200, self.at_the_door("/api/v1/streams", peer="127.0.0.1").status)
        for path in ("/metrics", "/api/v1/openapi.json", *self.probes):
            self.assertEqual(200, self.at_the_door(path).status, path)
        for path in ("/", "/live/k", "/live/k/index.m3u8"):
            self.assertEqual(404, self.at_the_door(path).status, path)


def _never() -> Deferred[None]:
    return Deferred()
