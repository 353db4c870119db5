"""What fits the description of the HTTP interface is understood: a client that keeps to it never gets a 400."""

from __future__ import annotations

import json
import re
from typing import Any
from urllib.parse import quote, urlencode

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.http.openapi_values import lifetime
from rapidrtmp.support.units import parse_duration_s
from tests.recording.recordings import record, store_into
from tests.slow import slow
from tests.web.kit import MP4, Server, playlist
from tests.web.schemas import fitting

#: What there is, so that requests get beyond the 404 of a name that no one uses.
KNOWN = {
    "app": ["live"],
    "key": ["k", "test"],
    "start": ["20260101T000000Z"],
    "token": ["a.b-c_d~e"],
    "rendition": ["audio-2"],
    "name": ["index.m3u8", "master.m3u8", "clip.m3u8", "clip.mp4", "recording.mp4", "segment_1.m4s"],
}


def server(**policy: Any) -> Server:
    """A server with a live stream and a recording."""
    made = Server(**policy)
    stream = made.live()
    stream.shelf.put_playlist("index.m3u8", playlist())
    stream.shelf.put("segment_1.m4s", [b"moofmdat"], MP4)
    store_into(made.storage, record(7))
    return made


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, described in document["paths"].items()
        for method, operation in described.items()
    ]


@st.composite
def requests(draw: Any, document: dict[str, Any]) -> tuple[str, str, bytes, dict[str, Any]]:
    """A request that fits the description: its method, target and body, and the operation that it is of."""
    method, path, operation = draw(st.sampled_from(operations(document)))
    query = {}
    for each in operation.get("parameters", ()):
        name, values = each["name"], fitting(each["schema"], document)
        if each["in"] == "path":
            known = [value for value in KNOWN[name] if Draft202012Validator(each["schema"]).is_valid(value)]
            path = path.replace(f"{{{name}}}", quote(draw(st.sampled_from(known) | values), safe=""))
        elif each.get("required") or draw(st.booleans()):
            query[name] = draw(values)
    body = b""
    if "application/json" in operation.get("requestBody", {}).get("content", ()):  # forms may be empty
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        body = json.dumps(draw(fitting(schema, document))).encode()
    return method.upper(), f"{path}?{urlencode(query)}" if query else path, body, operation


@slow
class FuzzTests(SynchronousTestCase):
    def test_no_valid_request_is_bad(self) -> None:
        """Whatever fits the served description is answered with a status that it lists, and never with 400."""
        here = server()
        document = here.get("/api/v1/openapi.json").json()

        @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
        @given(requests(document))
        def check(request: tuple[str, str, bytes, dict[str, Any]]) -> None:
            method, target, body, operation = request
            wire = here.connect()
            wire.request(method, target, body)
            if wire.is_answered:  # or else it is held, as a request for what is about to come may be
                reply = wire.reply(method)
                self.assertIn(str(reply.status), operation["responses"], (request, reply))
                self.assertNotEqual(400, reply.status, (request, reply))

        check()


class LifetimeTests(SynchronousTestCase):
    def patterns(self, maximum_s: int) -> tuple[dict[str, Any], re.Pattern[str]]:
        whole, text, _ = lifetime(maximum_s)["anyOf"]
        return whole, re.compile(text["pattern"])

    @settings(max_examples=30)
    @given(st.sampled_from((1, 59, 60, 61, 90, 3600, 86_399, 86_400, 86_401, 1_234_567)), st.data())
    def test_durations_that_fit_are_allowed(self, maximum_s: int, data: st.DataObject) -> None:
        """Every duration that fits is one of at most the longest, for a server that permits more or less than a day."""
        _, pattern = self.patterns(maximum_s)
        text = data.draw(st.from_regex(pattern, fullmatch=True))
        self.assertTrue(1 <= parse_duration_s(text) <= maximum_s, text)

    @given(st.integers(1, 10**6), st.integers(1, 10**6))
    def test_all_seconds_fit_or_not(self, maximum_s: int, seconds: int) -> None:
        """Every number of seconds that a token may be valid for fits, and no longer one does."""
        whole, pattern = self.patterns(maximum_s)
        for text in (str(seconds), f"{seconds}s"):
            self.assertEqual(seconds <= maximum_s, bool(pattern.search(text)), text)
        self.assertEqual((1, maximum_s), (whole["minimum"], whole["maximum"]))

    def test_served_with_its_own_limit(self) -> None:
        """The longest of this very server is described."""
        document = server(max_expiration_s=60).get("/api/v1/openapi.json").json()
        whole = document["components"]["schemas"]["PublishRequest"]["properties"]["expiresIn"]["anyOf"][0]
        self.assertEqual(60, whole["maximum"])
