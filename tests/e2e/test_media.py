"""What comes out is what went in: packet for packet and tick for tick, for every clip of the broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise

from rapidrtmp.cmaf.reader import FragmentInfo, SampleInfo, TrackInfo, read_fragments, read_init_segment
from tests.e2e.broadcast import BroadcastClaims
from tests.e2e.ffmpeg import Packet, decode, every_ffmpeg, read_packets
from tests.e2e.harness import EndToEndTest, new_folder

KINDS = {"vide": "video", "soun": "audio"}
#: Times go through RTMP in whole milliseconds: decode times, composition offsets and audio are rounded one by one.
ROUNDING_S = Fraction(2, 1000)
MS = Fraction(1, 1000)


class MediaClaims(BroadcastClaims):
    """Claims about the media of one clip."""

    def setUp(self) -> None:
        recording = self.recording
        self.tracks = read_init_segment(recording.body(recording.segments[0].map_uri))
        self.fragments = [read_fragments(recording.body(segment.uri), self.tracks) for segment in recording.segments]
        self.file = new_folder("whole") / f"{self.clip}.mp4"
        self.file.write_bytes(recording.whole)
        self.packets = read_packets(self.file)

    def runs(self, track: TrackInfo, segments: Sequence[Sequence[FragmentInfo]] = ()) -> list[Sequence[SampleInfo]]:
        """The samples of a track by fragment, of all segments or of some."""
        fragments = [fragment for segment in segments or self.fragments for fragment in segment]
        return [run.samples for fragment in fragments for run in fragment.tracks if run.track_id == track.track_id]

    def trimmed(self, kind: str) -> int:
        """How many packets at the front of a track that was sent did not come out."""
        return len(self.recording.clip.packets.tracks[kind]) - len(self.packets.tracks[kind])

    def pairs(self, kind: str) -> list[tuple[Packet, Packet]]:
        """Each packet as it was sent, and as it came out."""
        sent = self.recording.clip.packets.tracks[kind][self.trimmed(kind) :]
        return list(zip(sent, self.packets.tracks[kind], strict=True))

    # ── what FFmpeg says ─────────────────────────────────────────────────────────────────────────────────────────────

    def test_decodes_without_a_word(self) -> None:
        """Every FFmpeg here decodes the init segment and all segments without a word."""
        for ffmpeg in every_ffmpeg():
            self.assertEqual("", decode(self.file, ffmpeg))

    def test_packets_are_those_sent(self) -> None:
        """The packets that come out are those that went in, byte for byte, none missing and in order."""
        sent = self.recording.clip.packets.tracks
        self.assertEqual(set(sent), set(self.packets.tracks))
        for kind, packets in self.packets.tracks.items():
            expected = [packet.digest for packet in sent[kind]][self.trimmed(kind) :]
            self.assertEqual(expected, [packet.digest for packet in packets], kind)

    def test_trimming_before_the_first_picture(self) -> None:
        """Nothing is left out but audio that ends before the first picture."""
        sent = self.recording.clip.packets.tracks
        if "video" in sent:
            self.assertEqual(0, self.trimmed("video"))
            first = min(packet.pts for packet in sent["video"])
            for packet in sent.get("audio", ())[: self.trimmed("audio") if "audio" in sent else 0]:
                self.assertLessEqual(packet.pts + packet.duration, first + MS)
        else:
            self.assertEqual(0, self.trimmed("audio"))

    def test_configurations_are_those_sent(self) -> None:
        """Decoders are set up with the very records that the publisher sent."""
        self.assertEqual(self.recording.clip.packets.configurations, self.packets.configurations)

    def test_times_are_those_sent(self) -> None:
        """Every packet is where the publisher put it, and audio and video as far apart as he sent them."""
        moved = [out.pts - sent.pts for kind in self.packets.tracks for sent, out in self.pairs(kind)]
        self.assertLessEqual(max(moved) - min(moved), ROUNDING_S)

    def test_pulled_packets_are_those_listed(self) -> None:
        """FFmpeg playing the playlist is given the packets that the playlist's segments hold."""
        for kind, packets in self.recording.pulled.tracks.items():
            digests = [packet.digest for packet in self.packets.tracks[kind]]
            self.assertEqual(digests[-len(packets) :], [packet.digest for packet in packets], kind)
        if self.recording.final.sequence == self.recording.segments[0].sequence:
            self.assertEqual(self.packets.tracks.keys(), self.recording.pulled.tracks.keys())
            for kind, packets in self.packets.tracks.items():
                self.assertEqual(len(packets), len(self.recording.pulled.tracks[kind]), kind)

    # ── what the boxes say ───────────────────────────────────────────────────────────────────────────────────────────

    def test_two_witnesses_read_alike(self) -> None:
        """pymp4 and FFmpeg read the same samples at the same times."""
        for track in self.tracks:
            samples = [sample for run in self.runs(track) for sample in run]
            read = [(Fraction(s.dts, track.timescale), Fraction(s.pts, track.timescale), s.size) for s in samples]
            packets = self.packets.tracks[KINDS[track.handler]]
            self.assertEqual([(packet.dts, packet.pts, packet.size) for packet in packets], read)

    def test_decode_times_join_on(self) -> None:
        """Each fragment begins, per track, exactly where the one before ended."""
        for track in self.tracks:
            for before, after in pairwise(self.runs(track)):
                self.assertEqual(before[-1].dts + before[-1].duration, after[0].dts)

    def test_even_durations_of_frames(self) -> None:
        """Frames last what the frame rate says to within a tick, and audio its samples, whatever milliseconds say."""
        for track in self.tracks:
            durations = {sample.duration for run in self.runs(track) for sample in run}
            if track.handler == "soun":
                self.assertEqual({1024}, durations)
            else:
                frame_rate = self.recording.clip.frame_rate
                assert frame_rate is not None
                self.assertTrue(all(abs(each - 90_000 / frame_rate) < 1 for each in durations), durations)

    def test_fragment_numbers_count_on(self) -> None:
        """Fragments are numbered one by one."""
        numbers = [fragment.sequence_number for segment in self.fragments for fragment in segment]
        self.assertEqual(list(range(numbers[0], numbers[0] + len(numbers))), numbers)

    def test_keyframes_begin_every_segment(self) -> None:
        """Every segment begins with a keyframe; it is the only one in a segment of one GOP."""
        track = self.tracks[0]
        for segment in self.fragments:
            keyframes = [sample.keyframe for run in self.runs(track, [segment]) for sample in run]
            self.assertTrue(keyframes[0])
            self.assertEqual(len(keyframes) if track.handler == "soun" else 1, sum(keyframes))

    def test_announced_durations_are_true(self) -> None:
        """EXTINF and the parts' durations are those of the samples, to a millisecond; but for sound left at the end."""
        track = self.tracks[0]
        for segment, fragments in zip(self.recording.segments, self.fragments, strict=True):
            measured = [sum(sample.duration for sample in run) for run in self.runs(track, [fragments])]
            parts = [part.duration for part in segment.parts]
            left = parts[len(measured) :]
            self.assertLessEqual(len(left), segment is self.recording.segments[-1])
            told = [segment.duration - sum(left), *parts[: len(measured)]]
            for seconds, ticks in zip(told, [sum(measured), *measured], strict=True):
                self.assertLessEqual(abs(Fraction(seconds) - Fraction(ticks, track.timescale)), MS)

    def test_parts_make_their_segment(self) -> None:
        """A segment is its parts, one behind the other, to the byte."""
        for segment in self.recording.segments:
            parts = [self.recording.body(part.uri) for part in segment.parts]
            self.assertEqual(self.recording.body(segment.uri), b"".join(parts))

    def test_stored_files_are_those_served(self) -> None:
        """The files in the storage are what was served, end with ENDLIST, and play from the disk."""
        folder = self.recording.folder
        for segment in self.recording.final.segments:
            self.assertEqual(self.recording.body(segment.uri), (folder / segment.uri).read_bytes())
            self.assertEqual(self.recording.body(segment.map_uri), (folder / segment.map_uri).read_bytes())
        playlist = folder / "index.m3u8"
        self.assertIn("#EXT-X-ENDLIST", playlist.read_text())
        for ffmpeg in every_ffmpeg():
            self.assertEqual("", decode(playlist, ffmpeg))
        stored = read_packets(playlist)
        for kind, packets in self.recording.pulled.tracks.items():
            self.assertEqual([packet.digest for packet in packets], [each.digest for each in stored.tracks[kind]])


class PlainMediaTests(MediaClaims, EndToEndTest):
    """30 frames a second with stereo at 48 kHz."""

    clip = "plain"


class BFramesMediaTests(MediaClaims, EndToEndTest):
    """25 frames a second, two B-frames in a row, with mono at 44.1 kHz."""

    clip = "bframes"


class VideoMediaTests(MediaClaims, EndToEndTest):
    """Video alone, at 29.97 frames a second."""

    clip = "video"


class AudioMediaTests(MediaClaims, EndToEndTest):
    """Audio alone, in a narrow window."""

    clip = "audio"


class NarrowMediaTests(MediaClaims, EndToEndTest):
    """23.976 frames a second with B-frames, in a narrow window."""

    clip = "narrow"
