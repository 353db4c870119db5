"""Playlists keep their word: every rule of low-latency HLS over every version that a viewer saw (RFC 8216 bis)."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from itertools import pairwise

from tests.e2e.broadcast import GRACE_S, BroadcastClaims, broadcast
from tests.e2e.harness import EndToEndTest
from tests.e2e.playlists import MediaPlaylist, Segment, parse_variant

MS = timedelta(milliseconds=1)


class PlaylistClaims(BroadcastClaims):
    """Claims about the playlists of one clip."""

    def setUp(self) -> None:
        recording = self.recording
        self.playlists = [version.playlist for version in recording.versions]
        self.segments = recording.segments

    # ── what never changes ───────────────────────────────────────────────────────────────────────────────────────────

    def test_constants_never_change(self) -> None:
        """Version, target duration, part target and server control are the same in all versions."""
        versions = [*self.recording.versions, *self.recording.delta_versions]
        self.assertEqual(1, len({str(version.playlist.header) for version in versions}))

    def test_constants_are_consistent(self) -> None:
        """The hold-backs and the skip boundary are as far off as the specification wants them."""
        playlist = self.playlists[0]
        control = playlist.control
        self.assertEqual("YES", control["CAN-BLOCK-RELOAD"])
        self.assertGreaterEqual(Decimal(control["PART-HOLD-BACK"]), 3 * playlist.part_target)
        self.assertGreaterEqual(Decimal(control["HOLD-BACK"]), 3 * playlist.target)
        self.assertGreaterEqual(Decimal(control["CAN-SKIP-UNTIL"]), 6 * playlist.target)

    def test_durations_within_the_target(self) -> None:
        """No segment is longer than the target duration, rounded."""
        for segment in self.segments:
            self.assertLessEqual(round(segment.duration), self.playlists[0].target)

    def test_final_values_never_change(self) -> None:
        """What was said of a segment or part once is said in every version that lists it."""
        said: dict[int, Segment] = {}
        for playlist in self.playlists:
            for segment in playlist.segments:
                before = said.get(segment.sequence, segment)
                self.assertEqual(_facts(before), _facts(segment))
                if before.uri:
                    self.assertEqual((before.uri, before.duration), (segment.uri, segment.duration))
                if segment.parts:
                    self.assertEqual(list(before.parts), list(segment.parts)[: len(before.parts)])
                    said[segment.sequence] = segment
                said.setdefault(segment.sequence, segment)

    def test_window_appends_and_removes(self) -> None:
        """Generations only append at the end and remove in front, never below three target durations."""
        for before, after in pairwise(self.playlists):
            self.assertLessEqual(before.sequence, after.sequence)
            self.assertLessEqual(before.discontinuity_sequence, after.discontinuity_sequence)
            self.assertLessEqual(before.edge, after.edge)
            if after.sequence > before.sequence:
                listed = sum(segment.duration for segment in after.complete)
                self.assertGreaterEqual(listed, 3 * after.target)
        numbers = [segment.sequence for segment in self.segments]
        self.assertEqual(list(range(numbers[0], numbers[0] + len(numbers))), numbers)

    def test_independence_of_all_segments(self) -> None:
        """All segments are independent, and so say the playlist and their first parts."""
        self.assertTrue(all(playlist.independent for playlist in self.playlists))
        self.assertTrue(all(segment.parts[0].independent for segment in self.segments))

    def test_dates_follow_durations(self) -> None:
        """Every segment is dated, and its date is that of the one before plus its duration, to a millisecond."""
        for before, after in pairwise(self.segments):
            assert before.date is not None and after.date is not None
            self.assertLessEqual(abs(before.date + timedelta(seconds=float(before.duration)) - after.date), MS)

    # ── parts ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_part_durations_within_limits(self) -> None:
        """No part is longer than the part target; none but the last of a segment is shorter than 85 % of it."""
        target = self.playlists[0].part_target
        for segment in self.segments:
            for part in segment.parts:
                self.assertLessEqual(part.duration, target)
            for part in segment.parts[:-1]:
                self.assertGreaterEqual(part.duration, target * 85 / 100)

    def test_parts_add_up(self) -> None:
        """The parts of a segment last as long as the segment, to the last digit."""
        for segment in self.segments:
            self.assertEqual(segment.duration, sum(part.duration for part in segment.parts))

    def test_hints_are_held_until_there(self) -> None:
        """While the stream continues the very next part is hinted at; a request for it is held until it is there."""
        parts = {(each.sequence, at): part.uri for each in self.segments for at, part in enumerate(each.parts)}
        last = parts.popitem()  # that may be sound which was left when the stream ended, and that no one expected
        self.assertEqual(self.segments[-1].sequence, last[0][0])
        for playlist in self.playlists[:-1]:
            sequence, index = playlist.edge
            following = parts.get((sequence, index)) or parts.get((sequence + 1, 0))
            self.assertEqual(following or playlist.hint, playlist.hint)
            self.assertNotEqual("", playlist.hint)
        self.assertEqual("", self.playlists[-1].hint)
        answered = {name: answer for name, answer in self.recording.hinted.items() if answer.status == 200}
        self.assertGreater(len(answered), len(self.segments))
        for name, answer in answered.items():
            self.assertEqual(self.recording.objects[name].body, answer.body)
        listed = {part.uri for segment in self.segments for part in segment.parts}
        for name, answer in self.recording.hinted.items():
            self.assertEqual(200 if name in listed else 404, answer.status, name)

    # ── reloads ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def test_blocking_reload_has_its_part(self) -> None:
        """A reload is answered with the part it asks for, or, when nothing follows any more, with all there is."""
        for version in self.recording.versions[1:]:
            if version.playlist.edge != self.recording.final.edge:
                self.assertGreater(version.playlist.edge, version.asked)

    def test_every_part_in_time(self) -> None:
        """A viewer who asks for part after part misses none of them: each is listed while it is the newest."""
        first = self.playlists[0]
        seen = {part.uri for playlist in self.playlists for segment in playlist.segments for part in segment.parts}
        for segment in self.segments:
            if segment.sequence >= first.edge[0]:
                self.assertLessEqual({part.uri for part in segment.parts}, seen)

    def test_delta_updates_merge_exactly(self) -> None:
        """Delta updates merge into the very playlists that are served in full."""
        full = {playlist.edge: playlist for playlist in self.playlists if not playlist.ended}
        merged = [version.playlist for version in self.recording.delta_versions if not version.playlist.ended]
        common = [playlist for playlist in merged if playlist.edge in full]
        self.assertGreater(len(common), len(merged) // 2)
        for playlist in common:
            self.assertEqual(_comparable(full[playlist.edge]), _comparable(playlist))

    def test_delta_updates_skip(self) -> None:
        """Delta updates leave out what lies behind the skip boundary, and that only, from the second chance on."""
        before = 0
        for version in self.recording.delta_versions[1:]:
            expected = 0 if version.playlist.ended else _behind_boundary(version.playlist)
            if version.skipped or before:  # a full playlist is a right answer, too
                self.assertEqual(expected, version.skipped, version.playlist.edge)
            before = expected

    def test_end_after_the_grace(self) -> None:
        """The playlist ends when the publisher has not come back within the grace, and not before."""
        self.assertTrue(self.recording.final.ended)
        self.assertGreater(self.recording.waited_s, GRACE_S / 2)
        self.assertTrue(all(segment.uri for segment in self.recording.final.segments))

    # ── what is said about the stream ────────────────────────────────────────────────────────────────────────────────

    def test_multivariant_says_the_truth(self) -> None:
        """The multivariant playlist names codecs, size and frame rate as they are, and a bitrate that suffices."""
        clip = self.recording.clip
        for text in self.recording.multivariants:
            variant, uri = parse_variant(text)
            self.assertEqual("index.m3u8", uri)
            codecs = [name.partition(".")[0] for name in variant["CODECS"].split(",")]
            self.assertEqual(["avc1"] * bool(clip.frame_rate) + ["mp4a"] * bool(clip.sample_rate), codecs)
            self.assertEqual(clip.size if clip.frame_rate else None, variant.get("RESOLUTION"))
            self.assertEqual(f"{float(clip.frame_rate):.3f}" if clip.frame_rate else None, variant.get("FRAME-RATE"))
        self.assertEqual(bool(clip.frame_rate), '"iframes.m3u8"' in self.recording.multivariants[-1])
        variant, _ = parse_variant(self.recording.multivariants[-1])
        rates = [
            8 * len(self.recording.body(segment.uri)) / float(segment.duration)
            for segment in self.segments
            if segment.duration > Decimal("0.5")
        ]
        self.assertGreaterEqual(int(variant["BANDWIDTH"]), max(rates))
        self.assertLess(int(variant["BANDWIDTH"]), 1.25 * max(rates) + 50_000)
        self.assertLessEqual(int(variant["AVERAGE-BANDWIDTH"]), int(variant["BANDWIDTH"]))

    def test_description_by_the_api(self) -> None:
        """The API describes the stream as it is."""
        clip, description = self.recording.clip, self.recording.description
        self.assertEqual(clip.name, description["streamKey"])
        self.assertEqual("live", description["state"])
        self.assertEqual(clip.size if clip.frame_rate else None, description["resolution"])
        self.assertEqual(bool(clip.frame_rate), bool(description["videoCodec"]))
        self.assertEqual(clip.sample_rate or None, description["audioSampleRate"])
        self.assertGreaterEqual(description["viewers"], 1)

    def test_headers_of_every_answer(self) -> None:
        """Media is immutable, measured and open to pages elsewhere."""
        for name, answer in self.recording.objects.items():
            self.assertEqual(
                "video/mp4" if name.endswith(".mp4") else "video/iso.segment", answer.headers["content-type"]
            )
            self.assertEqual(str(len(answer.body)), answer.headers["content-length"])
            self.assertEqual("*", answer.headers["access-control-allow-origin"])
            self.assertIn("immutable", answer.headers["cache-control"])


def _facts(segment: Segment) -> tuple[object, ...]:
    """What is known of a segment from its first part on."""
    return segment.map_uri, segment.date, segment.discontinuity, segment.gap


def _behind_boundary(playlist: MediaPlaylist) -> int:
    """How many segments end further from the end of the last one than the skip boundary (4.4.3.8)."""
    boundary = Decimal(playlist.control["CAN-SKIP-UNTIL"])
    durations = [segment.duration for segment in playlist.complete]
    return sum(sum(durations[at + 1 :]) >= boundary for at in range(len(durations)))


def _comparable(playlist: MediaPlaylist) -> tuple[object, ...]:
    return playlist, tuple(playlist.segments)


class PlainPlaylistTests(PlaylistClaims, EndToEndTest):
    """30 frames a second with stereo at 48 kHz."""

    clip = "plain"


class BFramesPlaylistTests(PlaylistClaims, EndToEndTest):
    """25 frames a second, two B-frames in a row, with mono at 44.1 kHz."""

    clip = "bframes"


class VideoPlaylistTests(PlaylistClaims, EndToEndTest):
    """Video alone, at 29.97 frames a second."""

    clip = "video"


class AudioPlaylistTests(PlaylistClaims, EndToEndTest):
    """Audio alone, in a narrow window."""

    clip = "audio"


class NarrowPlaylistTests(PlaylistClaims, EndToEndTest):
    """23.976 frames a second with B-frames, in a narrow window."""

    clip = "narrow"


class SecretTests(EndToEndTest):
    """What no one may learn."""

    def test_tokens_appear_nowhere(self) -> None:
        """No token appears in the log, the metrics, a list, a page or a playlist."""
        made = broadcast()
        self.assertEqual(len(made.recordings), len(made.tokens))
        for where, text in made.said.items():
            self.assertEqual([], [at for at, token in enumerate(made.tokens) if token in text], where)

    def test_log_has_no_traceback(self) -> None:
        """A broadcast leaves no traceback in the log."""
        self.assertEqual([], broadcast().complaints)
