import gzip

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.interfaces import PLAYLIST_TYPE
from rapidrtmp.live.stream import LiveStream, StreamState
from rapidrtmp.names import StreamName
from tests.web.kit import MP4, Reply, Server, Wire, playlist

SEGMENT = bytes(range(100))
PLAIN = "/live/k/index.m3u8"


class HlsTestCase(SynchronousTestCase):
    """A live stream ``k`` with a playlist that ends after part 1 of segment 10, and one segment."""

    def setUp(self) -> None:
        self.server = Server(early_hold_ms=3000)
        self.stream = self.server.live()
        self.shelf = self.stream.shelf
        self.shelf.put_playlist("index.m3u8", playlist(9, 2, delta=b"#EXTM3U delta\n"))
        self.shelf.put("segment_9.m4s", [SEGMENT[:40], SEGMENT[40:]], MP4)

    def waiting(self, path: str, method: str = "GET", **headers: str) -> Wire:
        """A request that must not be answered yet."""
        wire = self.server.connect()
        wire.request(method, path, **headers)
        self.assertFalse(wire.is_answered, path)
        return wire

    def assert_media_error(self, status: int, reply: Reply) -> None:
        """An error that a player of another origin can read, and no cache keeps."""
        self.assertEqual(status, reply.status, reply)
        self.assertEqual("no-store", reply.headers["cache-control"])
        self.assertEqual("*", reply.headers["access-control-allow-origin"])
        self.assertEqual(["error"], list(reply.json()))


class PlaylistTests(HlsTestCase):
    def test_plain_playlist_comes_whole(self) -> None:
        """A playlist comes whole, as what it is, and cannot be asked for in ranges."""
        reply = self.server.get(PLAIN, Range="bytes=0-3")
        self.assertEqual(200, reply.status)
        self.assertIn("# 9.2\n", reply.text())
        self.assertEqual(PLAYLIST_TYPE, reply.headers["content-type"])
        self.assertEqual("none", reply.headers["accept-ranges"])
        self.assertEqual("Accept-Encoding", reply.headers["vary"])
        self.assertNotIn("content-encoding", reply.headers)

    def test_any_name_of_a_rendition(self) -> None:
        """A rendition's playlist is served under the name its sink chose."""
        self.shelf.put_playlist("audio.m3u8", playlist(4))
        self.assertIn("# 4.0\n", self.server.get("/live/k/audio.m3u8").text())

    def test_gzip_has_its_own_tag(self) -> None:
        """A playlist is compressed for those who accept that, under an entity tag of its own."""
        plain, packed = self.server.get(PLAIN), self.server.get(PLAIN, Accept_Encoding="gzip, br")
        self.assertEqual("gzip", packed.headers["content-encoding"])
        self.assertEqual(plain.body, gzip.decompress(packed.body))
        self.assertEqual(str(len(packed.body)), packed.headers["content-length"])
        self.assertNotEqual(plain.headers["etag"], packed.headers["etag"])
        self.assertEqual("Accept-Encoding", packed.headers["vary"])

    def test_known_version_is_not_modified(self) -> None:
        """A client that has this version, in this coding, gets an empty answer; the next version has another tag."""
        for coding in ("identity", "gzip"):
            etag = self.server.get(PLAIN, Accept_Encoding=coding).headers["etag"]
            reply = self.server.get(PLAIN, Accept_Encoding=coding, If_None_Match=f'W/"x", {etag}')
            self.assertEqual((304, b"", etag), (reply.status, reply.body, reply.headers["etag"]))
            self.assertEqual("Accept-Encoding", reply.headers["vary"])
        self.shelf.put_playlist("index.m3u8", playlist(9, 3))
        self.assertEqual(200, self.server.get(PLAIN, If_None_Match=etag).status)

    def test_head_has_no_body(self) -> None:
        """HEAD says all that GET says, and sends no body."""
        for path in (PLAIN, "/live/k/segment_9.m4s"):
            got, head = self.server.get(path), self.server.request("HEAD", path)
            self.assertEqual((got.status, b""), (head.status, head.body))
            self.assertEqual(
                {**got.headers, "date": ""}, {**head.headers, "date": ""}, "the same fields, Content-Length included"
            )

    def test_caching_follows_the_target_duration(self) -> None:
        """How long a playlist may be kept follows from its target duration and from whether it can still change."""
        cases = (
            (playlist(9, target_ms=1000), "", "public, max-age=1"),
            (playlist(9, target_ms=2000), "", "public, max-age=1"),
            (playlist(9, target_ms=3000), "", "public, max-age=1"),
            (playlist(9, target_ms=6000), "", "public, max-age=3"),
            (playlist(9, target_ms=2000), "?_HLS_msn=9", "public, max-age=12"),
            (playlist(9, target_ms=6000), "?_HLS_msn=9&_HLS_part=0", "public, max-age=36"),
            (playlist(9, target_ms=6000), "?_HLS_skip=YES", "public, max-age=3"),
            (playlist(9, target_ms=2000, ended=True), "", "public, max-age=12"),
            (playlist(9, target_ms=2000, ended=True), "?_HLS_msn=50", "public, max-age=12"),
        )
        for facts, query, expected in cases:
            self.shelf.put_playlist("index.m3u8", facts)
            self.assertEqual(expected, self.server.get(PLAIN + query).headers["cache-control"], query)

    def test_delta_for_those_who_can(self) -> None:
        """A delta update is sent to those who can use one, where there is one."""
        for query, delta in (("?_HLS_skip=YES", True), ("?_HLS_skip=v2", True), ("?_HLS_skip=no", False), ("", False)):
            self.assertEqual(delta, "delta" in self.server.get(PLAIN + query).text(), query)
        self.shelf.put_playlist("index.m3u8", playlist(10))
        self.assertIn("# 10.0\n", self.server.get(PLAIN + "?_HLS_skip=YES").text())
        self.shelf.put_playlist("index.m3u8", playlist(10, delta=b"#EXTM3U delta", ended=True))
        self.assertIn("# 10.0 end\n", self.server.get(PLAIN + "?_HLS_skip=YES").text())


class BlockingReloadTests(HlsTestCase):
    def ask(self, query: str) -> Wire:
        wire = self.server.connect()
        wire.request("GET", f"{PLAIN}?{query}")
        return wire

    def test_answered_at_once(self) -> None:
        """What the playlist holds already, or has let go of, is answered with the newest version."""
        for query in (
            "_HLS_msn=0",
            "_HLS_msn=3&_HLS_part=7",
            "_HLS_msn=9",
            "_HLS_msn=9&_HLS_part=5",
            "_HLS_msn=9&_HLS_part=6",
            "_HLS_msn=9&_HLS_part=123456",
            "_HLS_msn=10&_HLS_part=0",
            "_HLS_msn=10&_HLS_part=1",
        ):
            self.assertIn("# 9.2\n", self.ask(query).reply().text(), query)

    def test_bad_directives_are_named(self) -> None:
        """Directives that make no sense are a 400 that names them."""
        for query in (
            "_HLS_part=0",
            "_HLS_msn=x",
            "_HLS_msn=10&_HLS_msn=10",
            "_HLS_msn=12",
            "_HLS_msn=10&_HLS_part=40",
        ):
            reply = self.ask(query).reply()
            self.assert_media_error(400, reply)
            self.assertIn("_HLS_", reply.json()["error"])

    def test_woken_by_what_was_asked_for(self) -> None:
        """A held request is answered by the first version that has what it waits for, and not before."""
        steps = ((9, 3), (9, 4), (9, 5), (9, 6), (10, 0), (10, 1), (11, 0), (11, 1))
        cases = (
            ("_HLS_msn=10&_HLS_part=2", (9, 3)),
            ("_HLS_msn=10&_HLS_part=5", (9, 6)),
            ("_HLS_msn=10", (10, 0)),
            ("_HLS_msn=10&_HLS_part=6", (10, 1)),
            ("_HLS_msn=11&_HLS_part=0", (10, 1)),
            ("_HLS_msn=11", (11, 0)),
            ("_HLS_msn=11&_HLS_part=6", (11, 1)),
        )
        wires = [(self.ask(query), query, expected) for query, expected in cases]
        for step in steps:
            self.shelf.put_playlist("index.m3u8", playlist(*step))
            for wire, query, expected in wires:
                self.assertEqual(step >= expected, wire.is_answered, (query, step))
        for wire, query, (last, parts) in wires:
            self.assertIn(f"# {last}.{parts}\n", wire.reply().text(), query)

    def test_first_part_after_a_closed_segment(self) -> None:
        """A part beyond the end of the last segment stands for the first part of the next, which has none yet."""
        self.shelf.put_playlist("index.m3u8", playlist(10, 0))
        wire = self.waiting(f"{PLAIN}?_HLS_msn=10&_HLS_part=6")
        self.shelf.put_playlist("index.m3u8", playlist(10, 1))
        self.assertIn("# 10.1\n", wire.reply().text())

    def test_held_delta_is_of_its_version(self) -> None:
        """A held request for a delta update gets the delta of the version it waited for."""
        wire = self.waiting(f"{PLAIN}?_HLS_msn=10&_HLS_part=2&_HLS_skip=YES")
        self.shelf.put_playlist("index.m3u8", playlist(9, 3, delta=b"#EXTM3U newer delta"))
        self.assertEqual("#EXTM3U newer delta", wire.reply().text())

    def test_late_version_asks_to_retry(self) -> None:
        """After three target durations a held request is asked to try again, and waits no more."""
        wire = self.waiting(f"{PLAIN}?_HLS_msn=10")
        self.server.clock.advance(5.9)
        self.assertFalse(wire.is_answered)
        self.server.clock.advance(0.2)
        reply = wire.reply()
        self.assert_media_error(503, reply)
        self.assertEqual("1", reply.headers["retry-after"])
        self.assertEqual(0, self.shelf.waiting)

    def test_too_late_while_the_publisher_is_gone(self) -> None:
        """While the publisher may still return, the playlist's URL does not fail: it gives what there is."""
        wire = self.waiting(f"{PLAIN}?_HLS_msn=10")
        self.stream.interrupted()
        self.server.clock.advance(6.1)
        reply = wire.reply()
        self.assertEqual((200, "no-cache"), (reply.status, reply.headers["cache-control"]))
        self.assertIn("# 9.2\n", reply.text())

    def test_end_of_the_stream(self) -> None:
        """When the stream ends, a player that waits for more is given the final playlist."""
        wire = self.waiting(f"{PLAIN}?_HLS_msn=11&_HLS_part=2")
        self.shelf.put_playlist("index.m3u8", playlist(9, ended=True))
        self.assertIn(" end\n", wire.reply().text())

    def test_forgotten_stream_answers_waiters(self) -> None:
        """When the stream is forgotten, a player that still waits learns that it is gone."""
        wire = self.waiting(f"{PLAIN}?_HLS_msn=10")
        self.shelf.clear()
        self.assert_media_error(404, wire.reply())

    def test_leaving_client_stops_waiting(self) -> None:
        """A player that leaves waits no more, and the others continue waiting."""
        leaving, staying = self.waiting(f"{PLAIN}?_HLS_msn=10"), self.waiting(f"{PLAIN}?_HLS_msn=10")
        self.assertEqual(2, self.shelf.waiting)
        leaving.leave()
        self.assertEqual(1, self.shelf.waiting)
        self.shelf.put_playlist("index.m3u8", playlist(10))
        self.assertIn("# 10.0\n", staying.reply().text())
        self.assertFalse(leaving.is_answered)

    def test_too_many_waiters(self) -> None:
        """Beyond the bound on waiters a request is refused for now."""
        for _ in range(self.shelf.max_waiters):
            self.waiting(f"{PLAIN}?_HLS_msn=10")
        reply = self.ask("_HLS_msn=10").reply()
        self.assert_media_error(503, reply)
        self.assertEqual("1", reply.headers["retry-after"])

    def test_head_is_held_too(self) -> None:
        """HEAD waits as GET does."""
        wire = self.waiting(f"{PLAIN}?_HLS_msn=10", "HEAD")
        self.shelf.put_playlist("index.m3u8", playlist(10))
        self.assertEqual(200, wire.reply("HEAD").status)

    def test_keep_alive_after_waiting(self) -> None:
        """A connection that waited serves the next request."""
        wire = self.waiting(f"{PLAIN}?_HLS_msn=10&_HLS_part=2")
        self.shelf.put_playlist("index.m3u8", playlist(9, 3))
        self.assertIn("# 9.3\n", wire.reply().text())
        wire.request("GET", "/live/k/segment_9.m4s")
        self.assertEqual(SEGMENT, wire.reply().body)


class EarlyRequestTests(HlsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.early = self.server.publish("early")

    def test_unknown_stream_is_not_waited_for(self) -> None:
        """A stream that no one publishes is not waited for, but worth asking for again."""
        reply = self.server.get("/live/missing/index.m3u8")
        self.assert_media_error(404, reply)
        self.assertEqual("2", reply.headers["retry-after"])

    def test_held_until_there_is_a_playlist(self) -> None:
        """A request that comes before the first playlist gets the first playlist, even one without a segment."""
        wire = self.waiting("/live/early/index.m3u8")
        self.early.shelf.put_playlist("index.m3u8", playlist(-1, 1))
        self.assertIn("# -1.1\n", wire.reply().text())

    def test_held_with_directives(self) -> None:
        """A request that comes early and asks for more continues waiting for that."""
        wire = self.waiting("/live/early/index.m3u8?_HLS_msn=0&_HLS_part=1")
        self.early.shelf.put_playlist("index.m3u8", playlist(-1, 1))
        self.assertFalse(wire.is_answered)
        self.early.shelf.put_playlist("index.m3u8", playlist(-1, 2))
        self.assertIn("# -1.2\n", wire.reply().text())

    def test_leaving_in_the_second_wait(self) -> None:
        """Who leaves while waiting for the second thing waits for nothing more."""
        wire = self.waiting("/live/early/index.m3u8?_HLS_msn=0")
        self.early.shelf.put_playlist("index.m3u8", playlist(-1, 1))
        self.assertEqual(1, self.early.shelf.waiting)
        wire.leave()
        self.assertEqual(0, self.early.shelf.waiting)
        self.assertEqual(0, self.server.metric("http_waiting_requests"))

    def test_multivariant_playlist_is_waited_for(self) -> None:
        """The multivariant playlist is waited for whether or not its sink has announced it."""
        for announced in (False, True):
            stream = self.server.publish(f"early-{announced}")
            if announced:
                stream.shelf.announce("master.m3u8")
            wire = self.waiting(f"/live/early-{announced}/master.m3u8")
            stream.shelf.put("master.m3u8", [b"#EXTM3U variants"], PLAYLIST_TYPE, "public, max-age=2")
            self.assertEqual("#EXTM3U variants", wire.reply().text())

    def test_announced_rendition_is_waited_for(self) -> None:
        """A rendition's playlist is waited for if it was announced, and unknown if it was not."""
        self.early.shelf.announce("audio.m3u8")
        wire = self.waiting("/live/early/audio.m3u8")
        self.early.shelf.put_playlist("audio.m3u8", playlist(1))
        self.assertIn("# 1.0\n", wire.reply().text())
        self.assert_media_error(404, self.server.get("/live/early/other.m3u8"))

    def test_slow_start_is_given_up(self) -> None:
        """A stream that does not get going is not waited for longer than the operator wants."""
        wires = [self.waiting(f"/live/early/{name}") for name in ("index.m3u8", "master.m3u8")]
        self.server.clock.advance(2.9)
        self.assertFalse(any(wire.is_answered for wire in wires))
        self.server.clock.advance(0.2)
        for wire in wires:
            reply = wire.reply()
            self.assert_media_error(404, reply)
            self.assertEqual("1", reply.headers["retry-after"])
        self.assertEqual(0, self.early.shelf.waiting)

    def test_ended_stream_is_not_waited_for(self) -> None:
        """Nothing is waited for when the stream has ended."""
        self.server.registry.end(self.early)
        for name in ("index.m3u8", "master.m3u8"):
            self.assert_media_error(404, self.server.get(f"/live/early/{name}"))

    def test_segments_are_not_guessed(self) -> None:
        """A segment or part that no one announced is not waited for."""
        for name in ("segment_0.m4s", "init.mp4", "anything"):
            self.assert_media_error(404, self.server.get(f"/live/early/{name}"))


class AnnouncedPartTests(HlsTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.shelf.announce("part_10.2.m4s")

    def test_held_until_put(self) -> None:
        """A part that was hinted at comes the moment it is whole, with its length."""
        wire = self.waiting("/live/k/part_10.2.m4s")
        self.shelf.put("part_10.2.m4s", [b"moof", b"mdat"], MP4)
        reply = wire.reply()
        self.assertEqual((200, b"moofmdat"), (reply.status, reply.body))
        self.assertEqual("8", reply.headers["content-length"])

    def test_range_of_what_is_coming(self) -> None:
        """A range of a part that was hinted at is cut from the whole part."""
        wire = self.waiting("/live/k/part_10.2.m4s", Range="bytes=4-9007199254740991")
        self.shelf.put("part_10.2.m4s", [b"moof", b"mdat"], MP4)
        reply = wire.reply()
        self.assertEqual((206, b"mdat"), (reply.status, reply.body))

    def test_withdrawn_hint_is_not_found(self) -> None:
        """A hint that is taken back is a 404 that no cache keeps."""
        wire = self.waiting("/live/k/part_10.2.m4s")
        self.shelf.withdraw("part_10.2.m4s")
        self.assert_media_error(404, wire.reply())

    def test_late_part_is_reported(self) -> None:
        """A part that does not come within three target durations is reported to be late."""
        wire = self.waiting("/live/k/part_10.2.m4s")
        self.server.clock.advance(6.1)
        self.assert_media_error(503, wire.reply())
        self.assertEqual(0, self.shelf.waiting)

    def test_leaving_client_waits_for_nothing(self) -> None:
        """A player that leaves waits for no part."""
        self.waiting("/live/k/part_10.2.m4s").leave()
        self.assertEqual(0, self.shelf.waiting)


class ObjectTests(HlsTestCase):
    def get(self, **headers: str) -> Reply:
        return self.server.get("/live/k/segment_9.m4s", **headers)

    def test_whole_segment_is_kept_for_ever(self) -> None:
        """A segment comes whole, may be kept for ever, and is never compressed."""
        reply = self.get(Accept_Encoding="gzip")
        self.assertEqual((200, SEGMENT), (reply.status, reply.body))
        self.assertEqual(MP4, reply.headers["content-type"])
        self.assertEqual("public, max-age=31536000, immutable", reply.headers["cache-control"])
        self.assertEqual("bytes", reply.headers["accept-ranges"])
        self.assertNotIn("content-encoding", reply.headers)
        self.assertNotIn("vary", reply.headers)

    def test_range_has_its_bytes(self) -> None:
        """A range is answered with its bytes and where they lie."""
        for value, start, stop in (("bytes=0-9", 0, 10), ("bytes=90-", 90, 100), ("bytes=-1", 99, 100)):
            reply = self.get(Range=value)
            self.assertEqual((206, SEGMENT[start:stop]), (reply.status, reply.body))
            self.assertEqual(f"bytes {start}-{stop - 1}/100", reply.headers["content-range"])
            self.assertEqual(str(stop - start), reply.headers["content-length"])

    def test_several_ranges_give_the_whole(self) -> None:
        """Several ranges at once are answered with the whole."""
        reply = self.get(Range="bytes=0-1,5-6")
        self.assertEqual((200, SEGMENT), (reply.status, reply.body))

    def test_range_outside_is_refused(self) -> None:
        """A range outside the segment is refused with its size."""
        reply = self.get(Range="bytes=100-")
        self.assert_media_error(416, reply)
        self.assertEqual("bytes */100", reply.headers["content-range"])

    def test_range_on_condition_is_honoured(self) -> None:
        """A range on condition is honoured if the segment is still the same, else the whole is sent."""
        etag = self.get().headers["etag"]
        self.assertEqual(206, self.get(Range="bytes=0-1", If_Range=etag).status)
        self.assertEqual(200, self.get(Range="bytes=0-1", If_Range='"another"').status)
        self.assertEqual(200, self.get(Range="bytes=0-1", If_Range=f"W/{etag}").status)

    def test_known_segment_is_not_modified(self) -> None:
        """A client that has the segment learns that it is unchanged, range or not."""
        etag = self.get().headers["etag"]
        for headers in ({}, {"Range": "bytes=0-1"}, {"Range": "bytes=900-"}):
            reply = self.get(If_None_Match=etag, **headers)
            self.assertEqual((304, b""), (reply.status, reply.body))
            self.assertEqual("public, max-age=31536000, immutable", reply.headers["cache-control"])

    def test_head_has_no_ranges(self) -> None:
        """HEAD tells of the whole object, whatever the range."""
        reply = self.server.request("HEAD", "/live/k/segment_9.m4s", Range="bytes=0-1")
        self.assertEqual((200, "100"), (reply.status, reply.headers["content-length"]))

    def test_multivariant_playlist_has_no_ranges(self) -> None:
        """The multivariant playlist is text: compressed, and not cut into ranges."""
        self.shelf.put("master.m3u8", [b"#EXTM3U", b" variants"], PLAYLIST_TYPE, "public, max-age=2")
        reply = self.server.get("/live/k/master.m3u8", Accept_Encoding="gzip", Range="bytes=0-1")
        self.assertEqual((200, "gzip"), (reply.status, reply.headers["content-encoding"]))
        self.assertEqual("#EXTM3U variants", reply.text())
        self.assertEqual(
            ("public, max-age=2", "none"), (reply.headers["cache-control"], reply.headers["accept-ranges"])
        )

    def test_withdrawn_segment_is_not_found(self) -> None:
        """What has aged off the shelf is not found."""
        self.shelf.withdraw("segment_9.m4s")
        self.assert_media_error(404, self.get())

    def test_while_interrupted_and_after_the_end(self) -> None:
        """What is on the shelf is served as long as it is there."""
        self.stream.interrupted()
        self.assertEqual(200, self.get().status)
        self.server.registry.end(self.stream)
        self.assertEqual(StreamState.ENDED, self.stream.state)
        self.assertEqual(200, self.get().status)
        self.assertEqual(200, self.server.get(PLAIN).status)


class OtherOriginTests(HlsTestCase):
    def test_preflight_allows_player_fields(self) -> None:
        """A page of any origin may ask for media with the fields that players send, without credentials."""
        for path in (PLAIN, "/live/k/segment_9.m4s", "/live/missing/part_1.m4s"):
            reply = self.server.request(
                "OPTIONS", path, Origin="https://player.example", Access_Control_Request_Method="GET"
            )
            self.assertEqual((204, b""), (reply.status, reply.body))
            self.assertEqual("*", reply.headers["access-control-allow-origin"])
            self.assertIn("Range", reply.headers["access-control-allow-headers"])
            self.assertEqual("86400", reply.headers["access-control-max-age"])
            self.assertNotIn("access-control-allow-credentials", reply.headers)

    def test_preflight_of_any_fields(self) -> None:
        """Whatever fields a player is about to send, it may send."""
        for asked in ("range", "cmcd-object,cmcd-request, CMCD-Session", "Content-Type,Accept-Encoding", "x-anything"):
            reply = self.server.request("OPTIONS", PLAIN, Access_Control_Request_Headers=asked)
            self.assertEqual((204, asked), (reply.status, reply.headers["access-control-allow-headers"]))
            self.assertEqual("Access-Control-Request-Headers", reply.headers["vary"])
            self.assertNotIn("access-control-allow-credentials", reply.headers)

    def test_preflight_of_nonsense(self) -> None:
        """What is no list of fields is not repeated."""
        for asked in ("", ",", "a b", "a: b", "range,<script>", ",".join(["x"] * 101), "x" * 101):
            reply = self.server.request("OPTIONS", PLAIN, Access_Control_Request_Headers=asked)
            self.assertIn("Range", reply.headers["access-control-allow-headers"])
            self.assertNotIn("<", reply.headers["access-control-allow-headers"])

    def test_answers_can_be_read_everywhere(self) -> None:
        """Every answer, errors too, lets the page read what the player needs."""
        for path in (PLAIN, "/live/k/segment_9.m4s", "/live/k/none.m4s", "/live/missing/index.m3u8", "/live/.k/x"):
            reply = self.server.get(path, Origin="https://player.example")
            self.assertEqual("*", reply.headers["access-control-allow-origin"], path)
            self.assertIn("Age", reply.headers["access-control-expose-headers"])
            self.assertNotIn("access-control-allow-credentials", reply.headers)
            self.assertIn("date", reply.headers)


class ViewerTests(HlsTestCase):
    def count(self, stream: LiveStream | None = None) -> int:
        return (stream or self.stream).viewers.count(int(self.server.clock.seconds() * 1000))

    def test_each_client_counts(self) -> None:
        """Clients count by address and browser; asking again does not make them more."""
        for number in range(3):
            for _ in range(4):
                self.server.get(PLAIN, peer=f"192.0.2.{number}", User_Agent="a")
        self.assertEqual(3, self.count())
        self.server.get(PLAIN, peer="192.0.2.0", User_Agent="b")
        self.assertEqual(4, self.count())

    def test_many_behind_one_address(self) -> None:
        """Those who share an address are distinguished by asking for the same thing more than once."""
        for path in ("/live/k/segment_9.m4s", f"{PLAIN}?_HLS_msn=9&_HLS_part=3"):
            for _ in range(5):
                self.server.get(path)
        self.assertEqual(5, self.count())

    def test_many_at_different_places(self) -> None:
        """Those who share an address and watch different moments are distinguished by fetching in turn."""
        for number in (9, 200, 5_000):
            for at in range(3):
                self.shelf.put(f"segment_{number + at}.m4s", [b"x"], "video/mp4")
        for at in range(3):
            for number in (9, 200, 5_000):
                self.assertEqual(200, self.server.get(f"/live/k/segment_{number + at}.m4s").status)
        self.assertEqual(3, self.count())

    def test_what_does_not_count(self) -> None:
        """Neither errors nor HEAD nor preflights nor the middle of a segment make a viewer."""
        self.server.get("/live/k/none.m4s")
        self.server.get(f"{PLAIN}?_HLS_msn=x")
        self.server.request("HEAD", PLAIN)
        self.server.request("OPTIONS", PLAIN)
        self.server.get("/live/k/segment_9.m4s", Range="bytes=50-")
        self.assertEqual(0, self.count())
        self.server.get("/live/k/segment_9.m4s", Range="bytes=0-49")
        self.assertEqual(1, self.count())

    def test_held_requests_count_when_answered(self) -> None:
        """Who waits counts once the answer is there."""
        self.waiting(f"{PLAIN}?_HLS_msn=10&_HLS_part=2")
        self.assertEqual(0, self.count())
        self.shelf.put_playlist("index.m3u8", playlist(9, 3))
        self.assertEqual(1, self.count())

    def test_proxies_pass_on_clients(self) -> None:
        """Clients are distinguished behind a trusted proxy, and behind no other."""
        for trusted, expected in (((), 1), (("10.0.0.0/8",), 2)):
            server = Server(trusted_proxies=trusted)
            stream = server.live()
            stream.shelf.put_playlist("index.m3u8", playlist())
            for client in ("203.0.113.1", "203.0.113.2"):
                server.get(PLAIN, peer="10.0.0.9", X_Forwarded_For=client)
            self.assertEqual(expected, stream.viewers.count(int(server.clock.seconds() * 1000)))


class ViewerLimitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(max_viewers=2)
        self.server.live().shelf.put_playlist("index.m3u8", playlist())
        for number in (1, 2):
            self.assertEqual(200, self.watch(number).status)

    def watch(self, number: int, path: str = PLAIN) -> Reply:
        return self.server.get(path, peer=f"192.0.2.{number}")

    def test_full_stream_refuses_new_viewers(self) -> None:
        """A full stream refuses new viewers for now, and continues for those it has."""
        reply = self.watch(3)
        self.assertEqual((503, "10"), (reply.status, reply.headers["retry-after"]))
        self.assertEqual(200, self.watch(1).status)

    def test_seat_is_free_when_left(self) -> None:
        """A place that is left is free for another."""
        self.server.clock.advance(10)
        self.watch(1)
        self.server.clock.advance(5)
        self.assertEqual(200, self.watch(3).status)
        self.assertEqual(503, self.watch(4).status)

    def test_other_applications_have_no_limit(self) -> None:
        """An application without a limit has none."""
        self.server.live(app="open").shelf.put_playlist("index.m3u8", playlist())
        for number in range(5):
            self.assertEqual(200, self.watch(number, "/open/k/index.m3u8").status)

    def test_early_crowd_is_let_in(self) -> None:
        """Those who wait for a stream to start are let in up to the limit when it does."""
        stream = self.server.publish("early")
        wires = [self.server.connect(f"192.0.2.{number}") for number in range(4)]
        for wire in wires:
            wire.request("GET", "/live/early/index.m3u8")
        stream.shelf.put_playlist("index.m3u8", playlist())
        self.assertEqual([200, 200, 503, 503], sorted(wire.reply().status for wire in wires))


class PathTests(HlsTestCase):
    def test_tricks_lead_to_no_file(self) -> None:
        """No path leads to a file: it names a stream and something on its shelf, or nothing."""
        for path in (
            "/live/../../etc/passwd",
            "/live/k/../../../etc/passwd",
            "/live/k/..%2f..%2fetc%2fpasswd",
            "/live/%2e%2e/index.m3u8",
            "/live/..%5c..%5c/index.m3u8",
            "/live/.hidden/index.m3u8",
            "/live/k%00/index.m3u8",
            "/live/k/index.m3u8%00",
            "/live/k/%00",
            "/live/k/.",
            "/live/k/..",
            "/live//index.m3u8",
            "/%2e%2e/k/index.m3u8",
            "/live/%252e%252e/index.m3u8",
            "/live/k%0d%0aSet-Cookie:x/index.m3u8",
            "/live/%ff%fe/index.m3u8",
            "/live/" + "k" * 129 + "/index.m3u8",
            "/live/k/" + "x" * 5000,
            "/live/caf%C3%A9/index.m3u8",
            "/static/../app.py",
            "/static/..%2fapp.py",
            "/static/%2e%2e%2fapp.py",
            "/static/player.html",
            "/api/k/index.m3u8",
        ):
            reply = self.server.get(path)
            self.assertIn(reply.status, (400, 404), path)
            self.assertEqual(["error"], list(reply.json()), path)
            self.assertNotIn("set-cookie", reply.headers)


class DemandTests(HlsTestCase):
    """Streams that are not here, and come when they are asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.asked: list[StreamName] = []
        self.coming: list[Deferred[None]] = []
        self.server.demand = self.demand

    def demand(self, name: StreamName, via: tuple[str, ...]) -> Deferred[None] | None:
        if not name.key.startswith("far"):
            return None
        self.asked.append(name)
        self.coming.append(Deferred())
        return self.coming[-1]

    def test_playlist_waits_for_its_stream(self) -> None:
        """A playlist of a stream that is being fetched is answered when it has come."""
        wire = self.waiting("/live/far/index.m3u8")
        self.assertEqual([StreamName("live", "far")], self.asked)
        self.server.live("far").shelf.put_playlist("index.m3u8", playlist(9))
        self.coming[0].callback(None)
        self.assertIn("# 9.0\n", wire.reply().text())

    def test_stream_that_does_not_come_is_missed(self) -> None:
        """Where it has not come in time the answer is that there is none, and that it may be worth to ask again."""
        wire = self.waiting("/live/far/index.m3u8")
        self.coming[0].callback(None)
        reply = wire.reply()
        self.assert_media_error(404, reply)
        self.assertIn("retry-after", reply.headers)

    def test_player_that_leaves_wants_it_no_more(self) -> None:
        """A player that disconnects while it waits takes back what it asked for."""
        gone: list[object] = []
        self.server.demand = lambda _name, _via: Deferred(gone.append)
        wire = self.waiting("/live/far/index.m3u8")
        wire.leave()
        self.assertEqual(1, len(gone))

    def test_ended_stream_is_asked_for_anew(self) -> None:
        """A stream that has ended here, and is to be had elsewhere, is fetched again; its segments need no asking."""
        far = self.server.live("far").shelf
        far.put_playlist("index.m3u8", playlist(9, ended=True))
        far.put("segment_9.m4s", [SEGMENT], MP4)
        self.assertEqual(200, self.server.get("/live/far/segment_9.m4s").status)
        self.assertEqual([], self.asked)
        self.waiting("/live/far/index.m3u8")
        self.assertEqual(1, len(self.asked))

    def test_others_are_answered_at_once(self) -> None:
        """Streams that are here, and names that are known nowhere, are answered as ever."""
        self.assertEqual(200, self.server.get(PLAIN).status)
        self.assert_media_error(404, self.server.get("/live/nope/index.m3u8"))
        self.assertEqual([], self.asked)
