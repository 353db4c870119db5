import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from twisted.internet.defer import fail
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import StorageError
from rapidrtmp.names import StreamName
from rapidrtmp.playback.media import MediaResponder
from rapidrtmp.playback.responder import HlsResponder
from rapidrtmp.web.abuse import Abuse
from rapidrtmp.web.api import Api
from rapidrtmp.web.api_access import ApiAccess, ApiSecret
from rapidrtmp.web.app import WebApp
from rapidrtmp.web.console.pages import ConsolePages
from rapidrtmp.web.openapi import description
from rapidrtmp.web.pages import Pages
from rapidrtmp.web.request_metrics import RequestMetrics
from rapidrtmp.web.routes import routes
from tests.recording.recordings import record, store_into
from tests.recording.test_renditions import RecordedLadder
from tests.web.kit import MP4, Reply, Server, open_admission, playlist


@cache
def document() -> dict[str, Any]:
    """The description of a server with our own contributions."""
    return description(contributions=Server().contributions)


@cache
def described() -> dict[tuple[str, str], Any]:
    """The operations of the description, by method and path."""
    return {
        (method.upper(), path): operation
        for path, operations in document()["paths"].items()
        for method, operation in operations.items()
    }


@cache
def _registry() -> Any:
    resource = Resource(contents=document(), specification=DRAFT202012)
    return Registry().with_resource("urn:description", resource)


def schema_errors(schema: dict[str, Any], value: object) -> list[str]:
    if "$ref" in schema:
        schema = {"$ref": "urn:description" + schema["$ref"]}
    validator = Draft202012Validator(schema, registry=_registry(), format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(value)]


class RoutesTests(SynchronousTestCase):
    def test_every_route_is_described(self) -> None:
        """The description names every route that the server has, and no other."""
        routed = set()
        for rule in _application(Server()).klein.url_map.iter_rules():
            path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule)
            routed |= {(method, path) for method in rule.methods - {"HEAD", "OPTIONS"}}
        self.assertEqual(routed, set(described()))

    def test_parameters_are_those_of_the_path(self) -> None:
        """Every operation describes just the names that its path has."""
        for (method, path), operation in described().items():
            named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
            self.assertEqual(set(re.findall(r"\{(\w+)\}", path)), named, (method, path))

    def test_operations_are_told_apart(self) -> None:
        """No two operations share a name, and none lacks a summary."""
        operations = described().values()
        self.assertEqual(len(operations), len({operation["operationId"] for operation in operations}))
        self.assertTrue(all(operation["summary"] for operation in operations))

    def test_references_lead_to_schemas(self) -> None:
        """Every schema that is referred to exists, and every schema is referred to and is one."""
        text, schemas = json.dumps(document()), document()["components"]["schemas"]
        for name, schema in schemas.items():
            Draft202012Validator.check_schema(schema)
            self.assertIn(f'"#/components/schemas/{name}"', text)
        self.assertEqual(set(schemas), {part.split('"')[0] for part in text.split('"#/components/schemas/')[1:]})

    def test_served_as_it_is_written(self) -> None:
        """The description is served to every client, as it is written."""
        reply = Server().get("/api/v1/openapi.json", peer="192.0.2.1")
        self.assertEqual((200, "application/json"), (reply.status, reply.headers["content-type"]))
        self.assertEqual(json.loads(json.dumps(document())), reply.json())


#: What may need a viewer's token, and what writes to the storage: their own tests have the rest of the answers.
GUARDED = (
    "/{app}/{key}",
    "/embed/{app}/{key}",
    "/{app}/{key}/viewers.json",
    "/{app}/{key}/poster.mp4",
    "/{app}/{key}/{name}",
    "/recordings/{app}/{key}/{name}",
    "/recordings/{app}/{key}/{start}/{name}",
    "/recordings/{app}/{key}/{start}/{rendition}/{name}",
)
STORING = ("/api/v1/tokens/revoke", "/api/v1/streams/{key}/stop", "/api/v1/streams/{app}/{key}/stop")


class AnswersTests(SynchronousTestCase):
    """What the server really answers is as described."""

    def setUp(self) -> None:
        self.server = Server(max_body_bytes=1000)
        stream = self.server.live()
        stream.metadata = {"encoder": "obs", "width": 1280.0, "nested": {"a": [1, None]}}
        stream.shelf.put_playlist("index.m3u8", playlist())
        stream.shelf.put("segment_1.m4s", [b"moofmdat"], MP4)
        stream.shelf.put_playlist("audio-1/index.m3u8", playlist())
        stream.shelf.put("audio-1/segment_1.m4s", [b"moofmdat"], MP4)
        self.server.publish("starting")
        self.seen: set[tuple[str, str, int]] = set()

    def check(self, status: int, template: str, reply: Reply, method: str = "GET") -> None:
        self.assertEqual(status, reply.status, (template, reply))
        responses = described()[method, template]["responses"]
        self.assertIn(str(status), responses, template)
        content = responses[str(status)].get("content", {})
        self.seen.add((method, template, status))
        if status in (204, 303, 304, 307):
            self.assertEqual({}, content)
            return
        content_type = reply.headers["content-type"].split(";")[0]
        self.assertIn(content_type, content, template)
        schema = content[content_type].get("schema")
        if content_type == "application/json":
            self.assertEqual([], schema_errors(schema, reply.json()), template)

    def get(self, status: int, template: str, path: str = "", **headers: Any) -> None:
        self.check(status, template, self.server.get(path or template, **headers))

    def post(self, status: int, template: str, path: str = "", value: object = None, **headers: Any) -> None:
        self.check(status, template, self.server.post(path or template, value, **headers), "POST")

    def test_all_answers_fit_their_schemas(self) -> None:
        """Every status of every operation that can be had is had, and fits its schema."""
        self._denied()
        self._management()
        self._tokens()
        self._server()
        self._watching()
        self._console()
        self._recordings()
        promised = {
            (*operation, int(status)) for operation, told in described().items() for status in told["responses"]
        }
        elsewhere = {  # these want a server of their own: see the tests of the gate, of held requests and of clips
            *((*operation, 429) for operation in described()),
            *((*operation, 503) for operation, told in described().items() if "security" in told),
            ("GET", "/{app}/{key}/{name}", 409),
            ("GET", "/recordings/{app}/{key}/{name}", 409),
            ("GET", "/{app}/{key}/{name}", 503),
            ("GET", "/{app}/{key}/{rendition}/{name}", 503),
        }
        elsewhere |= {("GET", path, status) for path in GUARDED for status in (307, 401, 403, 503)}
        elsewhere |= {("POST", path, 503) for path in STORING}
        elsewhere |= {one for one in promised if "{token}" in one[1]}  # the same route as without
        self.assertEqual(set(), promised - self.seen - elsewhere)

    def _tokens(self) -> None:
        play, revoke = "/api/v1/play", "/api/v1/tokens/revoke"
        self.post(200, play, value={"streamKey": "a", "app": "open"})
        self.post(400, play, value={"streamKey": "a", "maxPlayers": 0})
        self.post(404, play, value={"streamKey": "a", "app": "nowhere"})
        self.server.apps["live"].play_authenticator = object()
        self.post(409, play, value={"streamKey": "a"})
        self.server.apps["live"].play_authenticator = None
        self.post(413, play, value="x" * 2000)
        self.post(200, revoke, value={"token": "a"})
        self.post(200, revoke, value={"streamKey": "a"})
        self.post(400, revoke, value={})
        self.post(404, revoke, value={"streamKey": "a", "app": "nowhere"})
        self.post(413, revoke, value="x" * 2000)

    def _denied(self) -> None:
        """What is asked of the management API without the secret, and for a page."""
        for (method, template), operation in described().items():
            if "security" in operation:
                path = template.replace("{", "").replace("}", "")
                asked = self.server.request(method, path, peer="192.0.2.1")
                self.check(401, template, asked, method)
                asked = self.server.request(method, path, Origin="https://a.example")
                self.check(403, template, asked, method)

    def _management(self) -> None:
        publish = "/api/v1/publish"
        self.post(200, publish, value={"streamKey": "a", "expiresIn": "1h"})
        self.post(400, publish, value={"streamKey": "a/b"})
        self.post(404, publish, value={"streamKey": "a", "app": "nowhere"})
        self.post(409, publish, value={"streamKey": "a", "app": "open"})
        self.post(413, publish, value="x" * 2000)
        self.get(200, "/api/v1/streams")
        self.get(400, "/api/v1/streams", "/api/v1/streams?page=x")
        self.get(405, "/api/v1/streams/{app}/{key}", "/api/v1/streams/k/stop")
        for prefix, template in (("", "/api/v1/streams/{key}"), ("live/", "/api/v1/streams/{app}/{key}")):
            one = f"/api/v1/streams/{prefix}"
            for what in ("history", "poster.mp4"):
                for status, of in ((200, "k"), (400, ".k"), (404, "missing")):
                    self.get(status, f"{template}/{what}", f"{one}{of}/{what}")
            self.get(200, template, f"{one}k")
            self.get(200, template, f"{one}starting")
            self.get(400, template, f"{one}.k")
            self.get(404, template, f"{one}missing")
            key = "again" if prefix else "once"
            self.server.live(key)
            stop = f"{template}/stop"
            self.post(413, stop, f"{one}{key}/stop", "x" * 2000)
            self.post(200, stop, f"{one}{key}/stop")
            self.post(409, stop, f"{one}{key}/stop")
            self.post(404, stop, f"{one}missing/stop")
            self.post(400, stop, f"{one}.k/stop")

    def _console(self) -> None:
        self.get(200, "/console")
        for status, name in ((200, "console.js"), (200, "console.css"), (200, "icon.svg"), (404, "none")):
            self.get(status, "/console/static/{name}", f"/console/static/{name}")
        self.get(304, "/console/static/{name}", "/console/static/console.js", If_None_Match="*")
        code, here = "/console/code", {"Origin": "http://localhost:8080"}
        for status, value in ((200, {"text": "x"}), (400, {"text": ""}), (413, "x" * 2000)):
            self.post(status, code, value=value)

        def form(status: int, path: str, body: bytes, **headers: str) -> Reply:
            reply = self.server.request("POST", path, body, peer="192.0.2.1", **headers)
            self.check(status, path, reply, "POST")
            return reply

        secret = b"secret=made-on-first-start"
        form(401, "/console/login", b"secret=x", **here)
        form(403, "/console/login", secret)
        form(413, "/console/login", bytes(2000), **here)
        cookie = form(303, "/console/login", secret, **here).headers["set-cookie"].split(";")[0]
        form(403, "/console/logout", b"", Cookie=cookie, **here)
        form(413, "/console/logout", bytes(2000), **here)
        form(303, "/console/logout", b"", **here)

    def _recordings(self) -> None:
        ladder = RecordedLadder(stream=StreamName("live", "ladder")).record(8)
        store_into(self.server.storage, record(7), record(4, stream=StreamName("live", "now"), finish=False), ladder)
        for prefix, template in (("", "/api/v1/streams/{key}/record"), ("live/", "/api/v1/streams/{app}/{key}/record")):
            one, start = f"/api/v1/streams/{prefix}k/record", {"action": "stop" if prefix else "start"}
            self.post(200, template, one, start)
            self.post(409, template, one, start)
            self.post(400, template, one, {})
            self.post(413, template, one, "x" * 2000)
            self.post(404, template, one.replace("/k/", "/missing/"), start)
        listing, template = "/api/v1/recordings", "/api/v1/recordings/{app}/{key}/{start}"
        one, none, grows = (f"{listing}/live/{key}/20260101T000000Z" for key in ("test", "none", "now"))
        self.get(200, listing)
        self.get(400, listing, f"{listing}?from=x")
        self.get(200, template, one)
        self.get(200, template, grows)
        self.get(404, template, none)
        protect = f"{template}/protect"
        self.post(200, protect, f"{one}/protect", {"protected": False})
        self.post(400, protect, f"{one}/protect", {})
        self.post(404, protect, f"{none}/protect", {"protected": True})
        rename = protect.replace("/protect", "/title")
        self.post(200, rename, f"{one}/title", {"title": "The show"})
        self.post(400, rename, f"{one}/title", {"title": 7})
        self.post(404, rename, f"{none}/title", {"title": "The show"})
        self.post(413, rename, f"{one}/title", "x" * 2000)
        self.post(413, protect, f"{one}/protect", "x" * 2000)
        self._recording_media()
        self.delete(409, template, grows)
        self.delete(404, template, none)
        self.delete(200, template, one)
        self.server.storage.list = self.server.storage.get = lambda *_: fail(StorageError("x"))  # type: ignore[assignment]
        self.get(503, "/recordings")
        self.get(503, listing)
        self.get(503, template, one)
        self.post(503, protect, f"{one}/protect", {"protected": True})
        self.post(503, rename, f"{one}/title", {"title": "The other show"})
        self.delete(503, template, one)
        self.get(503, "/recordings/{app}/{key}/{start}/{name}", "/recordings/live/b/20260101T000000Z/index.m3u8")
        other = "/recordings/{app}/{key}/{start}/{rendition}/{name}"
        self.get(503, other, "/recordings/live/b/20260101T000000Z/480p/index.m3u8")
        dates = "from=2026-01-01T00:00:01Z&to=2026-01-01T00:00:04Z"
        self.get(503, "/recordings/{app}/{key}/{name}", f"/recordings/live/b/clip.m3u8?{dates}")

    def _recording_media(self) -> None:
        rung, its_folder = (
            "/recordings/{app}/{key}/{start}/{rendition}/{name}",
            "/recordings/live/ladder/20260101T000000Z",
        )
        self.get(200, rung, f"{its_folder}/480p/index.m3u8")
        self.get(206, rung, f"{its_folder}/480p/recording.mp4", Range="bytes=0-1")
        self.get(304, rung, f"{its_folder}/480p/index.m3u8", If_None_Match="*")
        self.get(400, rung, f"{its_folder}/480p/clip.mp4?from=x")
        self.get(404, rung, f"{its_folder}/240p/index.m3u8")
        self.get(416, rung, f"{its_folder}/480p/recording.mp4", Range="bytes=99999999-")
        media, folder = "/recordings/{app}/{key}/{start}/{name}", "/recordings/live/test/20260101T000000Z"
        for name in ("index.m3u8", "clip.m3u8?to=3s", "recording.mp4", "clip.mp4", "init.mp4", "segment_00000001.m4s"):
            self.get(200, media, f"{folder}/{name}")
        self.get(206, media, f"{folder}/recording.mp4", Range="bytes=0-1")
        self.get(304, media, f"{folder}/index.m3u8", If_None_Match="*")
        self.get(400, media, f"{folder}/clip.mp4?from=x")
        self.get(404, media, f"{folder}/segment_00000099.m4s")
        self.get(416, media, f"{folder}/recording.mp4", Range="bytes=99999999-")

        clips, dates = "/recordings/{app}/{key}/{name}", "from=2026-01-01T00:00:01Z&to=2026-01-01T00:00:04Z"
        clip = f"/recordings/live/test/clip.mp4?{dates}"
        self.get(200, clips, clip)
        self.get(200, clips, f"/recordings/live/test/clip.m3u8?{dates}")
        self.get(206, clips, clip, Range="bytes=0-1")
        self.get(304, clips, clip, If_None_Match="*")
        self.get(400, clips, "/recordings/live/test/clip.mp4")
        self.get(404, clips, "/recordings/live/test/none.mp4")
        self.get(416, clips, clip, Range="bytes=99999999-")

    def delete(self, status: int, template: str, path: str, **headers: Any) -> None:
        self.check(status, template, self.server.request("DELETE", path, **headers), "DELETE")

    def _server(self) -> None:
        for path in ("/api/v1/openapi.json", "/api/ping", "/health", "/metrics"):
            self.get(200, path)
        self.get(503, "/ready")
        self.get(503, "/startup")
        self.server.readiness.listening()
        self.get(200, "/ready")
        self.get(200, "/startup")

    def _watching(self) -> None:
        self.get(200, "/")
        self.get(200, "/obs")
        for status, path in ((200, "live/k"), (400, "live/.k"), (404, "nowhere/k")):
            self.get(status, "/embed/{app}/{key}", f"/embed/{path}")
            self.get(status, "/{app}/{key}/viewers.json", f"/{path}/viewers.json")
            self.get(status, "/{app}/{key}/poster.mp4", f"/{path}/poster.mp4")
        for status, key in ((307, "k"), (400, ".k")):
            self.get(status, "/embed/{app}/{key}/", f"/embed/live/{key}/")
        self.get(200, "/recordings")
        self.get(400, "/recordings", "/recordings?page=x")
        self.get(204, "/favicon.ico")
        self.get(404, "/static/{name}", "/static/none")
        for name in ("player.js", "style.css", "icon.svg"):
            self.get(200, "/static/{name}", f"/static/{name}")
        self.get(304, "/static/{name}", "/static/player.js", If_None_Match="*")
        chosen, folder = "/{app}/{key}/{rendition}/{name}", "/live/k/audio-1"
        self.get(200, chosen, f"{folder}/index.m3u8")
        self.get(200, chosen, f"{folder}/segment_1.m4s")
        self.get(206, chosen, f"{folder}/segment_1.m4s", Range="bytes=0-1")
        self.get(304, chosen, f"{folder}/index.m3u8", If_None_Match="*")
        self.get(400, chosen, f"{folder}/index.m3u8?_HLS_part=0")
        self.get(404, chosen, f"{folder}/segment_9.m4s")
        self.get(416, chosen, f"{folder}/segment_1.m4s", Range="bytes=99-")
        self.get(200, "/{app}/{key}", "/live/k")
        self.get(400, "/{app}/{key}", "/live/.k")
        self.get(404, "/{app}/{key}", "/nowhere/k")
        self.get(307, "/{app}/{key}", "/live/k.m3u8")
        for template, path in (("/{app}/{key}/", "/live/%s/"), ("/{app}/{key}.m3u8", "/live/%s.m3u8")):
            self.get(307, template, path % "k")
            self.get(400, template, path % ".k")
        media, segment = "/{app}/{key}/{name}", "/live/k/segment_1.m4s"
        self.get(200, media, "/live/k/index.m3u8")
        self.get(200, media, segment)
        self.get(206, media, segment, Range="bytes=0-1")
        self.get(304, media, segment, If_None_Match="*")
        self.get(400, media, "/live/k/index.m3u8?_HLS_msn=x")
        self.get(404, media, "/live/k/none.m4s")
        self.get(416, media, segment, Range="bytes=99-")


def _application(server: Server) -> WebApp:
    """An application of the routes that a site is made of."""
    api = Api(server.registry, server.metrics, server.readiness, {}, server.policy, server.clock, server.utc_ms)
    admission = open_admission(server)
    hls = HlsResponder(server.registry, admission, 10_000, server.clock)
    pages = Pages(server.registry, {}, server.clock, admission)
    media = MediaResponder(hls, server.registry, admission, [])
    access = ApiAccess(ApiSecret(), server.policy, server.clock)
    contributed = [route for each in server.contributions for route in each.routes]
    table = routes(api, media, pages, ConsolePages(access, api.http_root), contributed, admission, server.policy)
    return WebApp(table, access, RequestMetrics(server.policy), Abuse(server.clock), server.policy)
