"""The rewind window: a long playlist of what is stored, its journal, and both after a kill."""

from __future__ import annotations

import re
from collections.abc import Sequence

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.journal import Header
from rapidrtmp.errors import ConfigurationError, MediaError, StorageError
from rapidrtmp.hls.multivariant import REWIND_DATA
from rapidrtmp.hls.names import REWIND_PLAYLIST, PageName, is_page
from rapidrtmp.hls.resume.recovery import give_back
from rapidrtmp.hls.rewind.journal import read_rewind_page
from rapidrtmp.hls.rewind.rewind import SEGMENTS_PER_PAGE, Rewind
from rapidrtmp.hls.segment import ListedSegment
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.interfaces import Constants
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.m3u8.model import MediaPlaylist
from rapidrtmp.m3u8.read import parse_media_playlist
from rapidrtmp.testing.frames import FrameSource, make_audio_track, make_video_track
from rapidrtmp.testing.sinks import STARTED_AT_MS, RecordingWriter, feed, make_sink_context, packaged
from tests.hls.resume.restarts import STREAM, Players, SeenShelf, Server, named, stored_playlist
from tests.hls.resume.test_recovery import FailingStorage, next_stored, publish
from tests.m3u8.checker import Follower
from tests.slow import slow

VIDEO, AUDIO = make_video_track(), make_audio_track()
SPEC = {"segment": "1s", "window": "4", "dvr": "1m"}


class Rewound:
    """A rewind window of a minute over segments of two seconds, and a player who looks at every version."""

    def __init__(self, shelf: Shelf | None = None, writer: RecordingWriter | None = None, first: int = 7) -> None:
        self.shelf = shelf or Shelf()
        self.writer = writer or RecordingWriter()
        self.rewind = Rewind(self.shelf, self.writer, str(STREAM), Constants(2, 334), 60_000, first)
        self.player = Follower()
        self._first = self._next = first
        self._init = ""

    def begin_run(self) -> None:
        self._init = f"init_{self._next}.mp4"
        self.writer.put(f"{STREAM}/{self._init}", [b"init"], "")
        header = Header(STREAM.app, STREAM.key, STARTED_AT_MS, 90_000, 2, ("avc1.42c01f",), 1280, 720, b"init")
        self.rewind.begin_run(self._init, header)

    def add(
        self, count: int = 1, *, gap: bool = False, discontinuity: bool = False, skip: int = 0, seen: bool = True
    ) -> None:
        self._next += skip
        for _ in range(count):
            number, self._next = self._next, self._next + 1
            start = (number - self._first) * 180_000
            date_ms = STARTED_AT_MS + (number - self._first) * 2000
            segment = ListedSegment.make(
                number,
                self._init,
                date_ms,
                start,
                start + 180_000,
                90_000,
                keyframe=True,
                discontinuity=discontinuity,
                gap=gap,
                size=0 if gap else 100,
            )
            self.writer.put(f"{STREAM}/segment_{number}.m4s", [b"%d" % number], "")
            self.rewind.add(segment)
            discontinuity = False
            if seen:
                version = self.shelf.find_playlist(REWIND_PLAYLIST)
                assert version is not None
                self.player.see(version.facts.body, version.facts.delta)

    def listed(self) -> MediaPlaylist:
        """What is listed now."""
        version = self.shelf.find_playlist(REWIND_PLAYLIST)
        assert version is not None
        return parse_media_playlist(version.facts.body)

    def stored(self, end: str) -> list[str]:
        return [key.rpartition("/")[2] for key in self.writer.objects if key.endswith(end)]


class WindowTests(SynchronousTestCase):
    def test_window_slides_with_time(self) -> None:
        """It lists the last minute, and tells who asks for a delta update only what is new to them."""
        rewound = Rewound()
        rewound.begin_run()
        rewound.add(50)
        latest = rewound.player.latest
        self.assertEqual((27, 56), (latest.segments[0].sequence, latest.last_sequence))
        version = rewound.shelf.find_playlist(REWIND_PLAYLIST)
        assert version is not None and version.facts.delta is not None
        self.assertIn(b"#EXT-X-SKIP:SKIPPED-SEGMENTS=24\n", version.facts.delta)
        self.assertNotIn(b"PART", version.facts.body)
        self.assertEqual((56, 0), (version.facts.last_sequence, version.facts.part_target_ms))

    def test_discontinuities_that_slide_are_counted(self) -> None:
        """Discontinuities that slide out are counted, and each segment is found with its own init segment."""
        rewound = Rewound()
        rewound.begin_run()
        rewound.add(3)
        rewound.begin_run()
        rewound.add(discontinuity=True)
        rewound.add(60)
        latest = rewound.player.latest
        self.assertEqual(1, latest.discontinuity_sequence)
        self.assertEqual({"init_10.mp4"}, {segment.map_uri for segment in latest.segments})

    def test_hole_leaves_nothing_before_it(self) -> None:
        """Where numbers are missing nothing is left before them: a playlist has no holes."""
        rewound = Rewound()
        rewound.begin_run()
        rewound.add(5)
        rewound.player = Follower(adjacent=False)
        rewound.add(skip=3)
        self.assertEqual([15], [segment.sequence for segment in rewound.player.latest.segments])

    def test_end_makes_it_final(self) -> None:
        """When the stream ends the playlist is final; one that lists nothing is taken back."""
        rewound = Rewound()
        rewound.begin_run()
        rewound.add(2)
        rewound.rewind.end()
        version = rewound.shelf.find_playlist(REWIND_PLAYLIST)
        assert version is not None
        self.assertTrue(rewound.player.see(version.facts.body).ended)
        empty = Rewound()
        empty.shelf.announce(REWIND_PLAYLIST)
        empty.rewind.end()
        self.assertFalse(empty.shelf.is_announced(REWIND_PLAYLIST))


class RetirementTests(SynchronousTestCase):
    def test_how_long_segments_are_kept(self) -> None:
        """What left the playlist can be fetched for as long again, and is gone then, init segments included."""
        rewound = Rewound()
        rewound.begin_run()
        rewound.add(10)
        rewound.begin_run()
        rewound.add(100, discontinuity=True)
        # 30 are listed; each stays for 30 more and its own duration.
        self.assertEqual(set(rewound.stored(".m4s")), {f"segment_{number}.m4s" for number in range(56, 117)})
        self.assertEqual(["init_17.mp4"], rewound.stored(".mp4"))
        self.assertEqual({key.rpartition("/")[2] for key in rewound.writer.objects}, rewound.rewind.names)

    def test_no_burst_of_deletions(self) -> None:
        """Where everything is to be deleted at once, it is little by little: what is written waits behind it."""
        rewound = Rewound()
        rewound.begin_run()
        rewound.add(25)
        rewound.player = Follower(adjacent=False)
        rewound.add(skip=3)
        counts = []
        for _ in range(35):
            rewound.writer.operations.clear()
            rewound.add()
            counts.append([what for what, _ in rewound.writer.operations].count("delete"))
        self.assertEqual([8, 8, 8, 1], [count for count in counts if count][:4])

    def test_pages_go_when_empty(self) -> None:
        """The journal describes all that is stored, in pages that are deleted when nothing on them is."""
        rewound = Rewound()
        rewound.begin_run()
        rewound.add(SEGMENTS_PER_PAGE + 20)
        pages = {name: rewound.writer.objects[f"{STREAM}/{name}"] for name in rewound.stored(".jsonl")}
        self.assertEqual(2, len(pages))
        described = [segment.number for data in pages.values() for segment in read_rewind_page(data)[1]]
        self.assertEqual(list(range(7, 27 + SEGMENTS_PER_PAGE)), described)
        rewound.add(SEGMENTS_PER_PAGE)
        self.assertEqual(2, len(rewound.stored(".jsonl")))

    def test_lost_page_is_written_again(self) -> None:
        """A page that the storage did not take is written again with the next segment."""
        rewound = Rewound(writer=RecordingWriter(holds=True))
        rewound.begin_run()
        rewound.add()
        rewound.writer.settle_all(is_journal)
        rewound.add()
        rewound.writer.settle_all()
        (name,) = rewound.stored(".jsonl")
        self.assertEqual(2, len(read_rewind_page(rewound.writer.objects[f"{STREAM}/{name}"])[1]))


def is_journal(key: str) -> bool:
    return is_page(key.rpartition("/")[2])


class RestoreTests(SynchronousTestCase):
    def test_as_it_was(self) -> None:
        """From its pages and the short window it comes back as it was, and continues."""
        before = Rewound()
        before.begin_run()
        before.add(90)
        listed = []
        for number in range(93, 99):  # the last two were not stored
            start, gap = (number - 7) * 180_000, number >= 97
            date_ms = STARTED_AT_MS + (number - 7) * 2000
            listed.append(
                ListedSegment.make(
                    number, "init_7.mp4", date_ms, start, start + 180_000, 90_000, keyframe=True, gap=gap
                )
            )
        after = Rewound(writer=before.writer)
        after.rewind.expect(listed, 7)
        self.give_back(after, before.stored(".jsonl"))
        playlist = after.listed()
        self.assertEqual(list(range(69, 99)), [segment.sequence for segment in playlist.segments])
        self.assertEqual([97, 98], [segment.sequence for segment in playlist.segments if segment.gap])
        before.add(2, gap=True)
        self.assertEqual(before.rewind.names, after.rewind.names)

    def test_damaged_page_takes_earlier_along(self) -> None:
        """A page that cannot be read takes those before it along; what is not stored counts as lost."""
        rewound = Rewound()
        rewound.begin_run()
        rewound.add(SEGMENTS_PER_PAGE + 20)
        first, last = sorted(map(parsed, rewound.stored(".jsonl")))
        data = [rewound.writer.objects[f"{STREAM}/{name}"] for name in (first, last)]
        after = Rewound()
        after.rewind.expect([self.gap(91)], 7)
        stored = {"init_7.mp4", *(f"segment_{number}.m4s" for number in range(7, 89))}
        for name, page in ((first, data[0]), (first._replace(first=70), b"{}\n"), (last, data[1])):
            give_back(after.rewind, name, page, stored)
        after.rewind.join_pages()
        listed = after.listed().segments
        self.assertEqual(list(range(last.first, 92)), [segment.sequence for segment in listed])
        self.assertEqual([89, 90, 91], [segment.sequence for segment in listed if segment.gap])
        self.assertNotIn(str(first), after.rewind.names)
        self.assertRaises(MediaError, read_rewind_page, b"")

    def test_given_back_late(self) -> None:
        """What is added before the window is back is written down at once, listed behind it, and nothing is lost."""
        before = Rewound()
        before.begin_run()
        before.add(20)
        pages = before.stored(".jsonl")
        after = Rewound(writer=before.writer, first=28)
        after.rewind.expect([self.gap(27)], 7)
        after.begin_run()
        after.add(3, discontinuity=True, seen=False)
        self.assertIsNone(after.shelf.find_playlist(REWIND_PLAYLIST))
        self.assertTrue(after.rewind.keeps(8))
        self.assertEqual(2, len(after.stored(".jsonl")))
        self.give_back(after, pages)
        self.assertEqual(list(range(7, 31)), [segment.sequence for segment in after.listed().segments])
        self.assertEqual([27], [segment.sequence for segment in after.listed().segments if segment.gap])
        after.add()
        self.assertEqual(
            {key.rpartition("/")[2] for key in after.writer.objects} | {"segment_27.m4s"}, after.rewind.names
        )

    def test_killed_again_before_the_window(self) -> None:
        """A server that is killed before the window was back leaves a hole in the journal; it is filled with gaps."""
        before = Rewound()
        before.begin_run()
        before.add(20)
        half = Rewound(writer=before.writer, first=30)
        half.rewind.expect([self.gap(29)], 7)
        half.begin_run()
        half.add(5, discontinuity=True, seen=False)
        after = Rewound(writer=before.writer, first=36)
        after.rewind.expect([self.gap(33), self.gap(34), self.gap(35)], 8)
        self.give_back(after, before.stored(".jsonl"))
        listed = after.listed()
        self.assertEqual(list(range(7, 36)), [segment.sequence for segment in listed.segments])
        self.assertEqual([27, 28, 29, 33, 34, 35], [segment.sequence for segment in listed.segments if segment.gap])

    def gap(self, number: int) -> ListedSegment:
        date_ms = STARTED_AT_MS + (number - 7) * 2000
        return ListedSegment.make(number, "init_7.mp4", date_ms, 0, 180_000, 90_000, keyframe=True, gap=True)

    def give_back(self, rewound: Rewound, pages: Sequence[str]) -> None:
        stored = {key.rpartition("/")[2] for key in rewound.writer.objects}
        for name in sorted(map(parsed, pages)):
            give_back(rewound.rewind, name, rewound.writer.objects[f"{STREAM}/{name}"], stored)
        rewound.rewind.join_pages()

    def test_ended_meanwhile_comes_back_final(self) -> None:
        """If the stream ends before the window is back, it comes back final."""
        before = Rewound()
        before.begin_run()
        before.add(3)
        after = Rewound(writer=before.writer, first=11)
        after.rewind.expect([self.gap(10)], 7)
        after.rewind.end()
        self.assertIsNone(after.shelf.find_playlist(REWIND_PLAYLIST))
        self.give_back(after, before.stored(".jsonl"))
        self.assertTrue(after.listed().ended)


def parsed(name: str) -> PageName:
    page = PageName.parse(name)
    assert page is not None
    return page


class KilledTests(SynchronousTestCase):
    def check(self, lag: int) -> None:
        """Kill the server at many moments; a player of the long window is never shown what does not go together."""
        server = Server({}, STARTED_AT_MS, lag, SPEC)
        publish(server, 8)
        checked = 0
        for moment in server.moments[::3]:
            before = server.shelf.rewound[: moment.rewound]
            again = Server(moment.stored, STARTED_AT_MS + 10_000, 0, SPEC)
            if not again.resumed:
                continue
            checked += 1
            publish(again, 4, gop=45)
            again.finish()
            players = Players()
            players.follow([version.body for version in before], {}, stored=0)
            players.follow([version.body for version in again.shelf.rewound], {}, stored=next_stored(moment))
            latest = parse_media_playlist(again.shelf.rewound[-1].body)
            self.assertTrue(latest.ended)
            if before:
                first = parse_media_playlist(before[-1].body).segments[0]
                self.assertEqual(first.sequence, latest.segments[0].sequence, "nothing was forgotten")
            self.assert_stored(again, [segment.uri for segment in latest.segments if not segment.gap])
        self.assertGreater(checked, 5)

    def assert_stored(self, server: Server, names: Sequence[str]) -> None:
        self.assertEqual(set(), {f"{STREAM}/{name}" for name in names} - server.writer.objects.keys())

    @slow
    def test_killed_with_prompt_storage(self) -> None:
        """However promptly it was stored."""
        self.check(lag=0)

    def test_killed_with_slow_storage(self) -> None:
        """However slowly it was stored."""
        self.check(lag=4)

    @slow
    def test_killed_again_keeps_gaps(self) -> None:
        """What was a gap after one kill is one after the next, also when the short playlist has forgotten it."""
        server = Server({}, STARTED_AT_MS, 0, SPEC)
        publish(server, 8)
        for moment in server.moments[::3]:
            second = Server(moment.stored, STARTED_AT_MS + 10_000, 0, SPEC)
            if not second.resumed:
                continue
            publish(second, 8)
            third = Server(second.moments[-1].stored, STARTED_AT_MS + 30_000, 0, SPEC)
            players = Players()
            players.follow([version.body for version in second.shelf.rewound], {}, stored=0)
            third_versions = [version.body for version in third.shelf.rewound]
            players.follow(third_versions, {}, stored=next_stored(second.moments[-1]))

    def test_unreadable_page_leaves_the_stream(self) -> None:
        """A stream of whose journal a page cannot be read is left as it is; those beside it do not suffer."""
        server = Server({}, STARTED_AT_MS, 0, SPEC)
        publish(server, 8)
        stored = server.moments[-1].stored
        lost = StorageError("on purpose")
        again = Server(
            stored, STARTED_AT_MS + 10_000, 0, SPEC, lambda storage: FailingStorage(storage, "get", lost, first=2)
        )
        self.assertFalse(again.resumed)
        self.assertEqual(stored, again.writer.objects)

    def test_back_late_loses_nothing(self) -> None:
        """An encoder comes, and the server is killed again, before the window is back: nothing of it is lost."""
        server = Server({}, STARTED_AT_MS, 0, SPEC)
        publish(server, 8)
        half = Server(server.moments[-1].stored, STARTED_AT_MS + 10_000, 0, SPEC, hurried=True)
        publish(half, 9, gop=45)
        self.assertEqual([], half.shelf.rewound)
        for moment in half.moments[-9::4]:
            again = Server(moment.stored, STARTED_AT_MS + 20_000, 0, SPEC, hurried=True)
            publish(again, 2, gop=45)
            self.check_back(server, again)
            long = parse_media_playlist(again.shelf.rewound[-1].body)
            short = stored_playlist(moment.stored)
            assert short is not None
            self.assertEqual(set(), named(short) - named(long))
        self.check_back(server, half)

    def check_back(self, first: Server, server: Server) -> None:
        """What the first life listed is listed still, and all that is listed is there."""
        self.assertTrue(server.resumed)
        server.go_on()
        server.finish()
        players = Players()
        players.follow([version.body for version in first.shelf.rewound], {}, stored=0)
        players.follow([version.body for version in server.shelf.rewound], {}, stored=next_stored(first.moments[-1]))
        before, after = (parse_media_playlist(each.shelf.rewound[-1].body) for each in (first, server))
        self.assertEqual(before.sequence, after.sequence)
        self.assertFalse(after.problems)
        self.assert_stored(server, [segment.uri for segment in after.segments if not segment.gap])
        played = {segment.uri for segment in before.segments}
        self.assertEqual(played, played & {segment.uri for segment in after.segments if not segment.gap})

    def test_switched_off_removes_the_window(self) -> None:
        """A server without a rewind window removes what an earlier one kept for it."""
        server = Server({}, STARTED_AT_MS, 0, SPEC)
        publish(server, 14)
        again = Server(server.moments[-1].stored, STARTED_AT_MS + 20_000, 0, {"segment": "1s", "window": "4"})
        self.assertTrue(again.resumed)
        self.assertEqual([], list(filter(is_journal, again.writer.objects)))
        self.assertNotIn(f"{STREAM}/segment_{again.numbering.first()}.m4s", again.writer.objects)
        self.assertLess(len(again.writer.objects), 10)

    def test_switched_on_begins_a_window(self) -> None:
        """A server with a rewind window resumes a stream that had none."""
        server = Server({}, STARTED_AT_MS, 0, {"segment": "1s", "window": "4"})
        publish(server, 8)
        again = Server(server.moments[-1].stored, STARTED_AT_MS + 10_000, 0, SPEC)
        publish(again, 4)
        again.finish()
        latest = parse_media_playlist(again.shelf.rewound[-1].body)
        self.assert_stored(again, [segment.uri for segment in latest.segments])
        self.assertEqual(4, len(latest.segments))


class SinkTests(SynchronousTestCase):
    def test_beside_the_short_one(self) -> None:
        """The long playlist lists what the short one has forgotten, and no media is written twice."""
        shelf, writer = SeenShelf(), RecordingWriter()
        sink = packaged(HlsSinkFactory(**SPEC).create(make_sink_context(stream=STREAM, shelf=shelf, storage=writer)))
        source = FrameSource(VIDEO, AUDIO)
        sink.tracks_changed(source.tracks)
        feed(sink, source.take(30))
        short, long = parse_media_playlist(shelf.versions[-1]), parse_media_playlist(shelf.rewound[-1].body)
        self.assertEqual((4, 29), (len([each for each in short.segments if each.uri]), len(long.segments)))
        media = [key for what, key in writer.operations if what == "put" and key.endswith((".m4s", ".mp4"))]
        self.assertEqual(len(media), len(set(media)))
        self.assertEqual(set(), {f"{STREAM}/{segment.uri}" for segment in long.segments} - writer.objects.keys())
        sink.finish()
        self.assertTrue(parse_media_playlist(shelf.rewound[-1].body).ended)

    def test_announced_in_the_multivariant(self) -> None:
        """The multivariant playlist says how far back viewers can go, unless the storage forgets."""
        for persistent, expected in ((True, [f'"{REWIND_DATA}",VALUE="60"']), (False, [])):
            shelf = SeenShelf()
            storage = RecordingWriter(persistent=persistent)
            sink = packaged(
                HlsSinkFactory(**SPEC).create(make_sink_context(stream=STREAM, shelf=shelf, storage=storage))
            )
            source = FrameSource(VIDEO, AUDIO)
            sink.tracks_changed(source.tracks)
            feed(sink, source.take(5))
            found = shelf.find("master.m3u8")
            assert found is not None
            self.assertEqual(expected, re.findall("EXT-X-SESSION-DATA:DATA-ID=(.*)", found.body.decode()))

    def test_storage_that_forgets(self) -> None:
        """Without a storage that keeps things there is no window, and the log says why."""
        shelf = SeenShelf()
        with capturedLogs() as events:
            HlsSinkFactory(**SPEC).create(make_sink_context(shelf=shelf, storage=RecordingWriter(persistent=False)))
        self.assertFalse(shelf.is_announced(REWIND_PLAYLIST))
        self.assertIn("dvr.m3u8", "".join(str(event.get("name", "")) for event in events))

    def test_arguments_of_the_window(self) -> None:
        """A window is from a minute to two days long, or there is none."""
        self.assertEqual((0, 7_200_000), (HlsSinkFactory().dvr_ms, HlsSinkFactory(dvr="2h").dvr_ms))
        for wrong in ("59s", "49h", "long"):
            self.assertRaises(ConfigurationError, HlsSinkFactory, dvr=wrong)
