"""Fragments: laid out as the specification has it, read back by pymp4, decoded by FFmpeg."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from hashlib import md5
from unittest.mock import patch

import imageio_ffmpeg
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from rapidrtmp.cmaf import fragment as fragments
from rapidrtmp.cmaf.fragment import DescribedRun, join_runs, write_fragment
from rapidrtmp.cmaf.init_segment import write_init_segment
from rapidrtmp.cmaf.reader import FragmentInfo, TrackFragmentInfo, TrackInfo, read_fragments, read_init_segment
from rapidrtmp.codec.table import AAC, AVC
from rapidrtmp.errors import MediaError, MisuseError
from rapidrtmp.interfaces import Sample, TrackRun
from rapidrtmp.media import AudioConfig, Frame, Track, VideoConfig
from tests.cmaf.test_init_segment import AUDIO, VIDEO
from tests.slow import slow

TRACKS = [TrackInfo(1, "vide", 90_000, "avc1", b""), TrackInfo(2, "soun", 44_100, "mp4a", b"")]


def video_sample(dts: int, data: bytes, *, offset: int = 0, keyframe: bool = False, duration: int = 3_600) -> Sample:
    """A sample of the video track."""
    return Sample(Frame(VIDEO, dts, offset, duration, keyframe, data, arrived_ms=0), duration)


def audio_sample(dts: int, data: bytes, *, duration: int = 1_024) -> Sample:
    """A sample of the audio track."""
    return Sample(Frame(AUDIO, dts, 0, duration, True, data, arrived_ms=0), duration)


def fragment_of(*runs: TrackRun, number: int = 1) -> bytes:
    """A fragment as one run of bytes."""
    return b"".join(write_fragment(number, runs))


class ByteTests(SynchronousTestCase):
    def assertHead(self, expected: str, pieces: list[bytes]) -> None:
        """Compare the first piece with hexadecimal digits, spaced as pleases the eye."""
        self.assertEqual(bytes.fromhex(expected).hex(" ", 4), pieces[0].hex(" ", 4))

    def test_video_fragment_byte_by_byte(self) -> None:
        """A keyframe presented late and a frame presented early, at a decode time beyond 32 bits."""
        run = TrackRun(
            VIDEO,
            [
                video_sample(0x1_0000_0000, b"key", offset=7_200, keyframe=True),
                video_sample(0x1_0000_0E10, b"b", offset=-3_600, duration=3_003),
            ],
        )
        self.assertHead(
            "00000078 6d6f6f66"
            "00000010 6d666864 00000000 00000007"
            "00000060 74726166"
            "00000010 74666864 00020000 00000001"
            "00000014 74666474 01000000 00000001 00000000"
            "00000034 7472756e 01000f01 00000002 00000080"
            "00000e10 00000003 02000000 00001c20"
            "00000bbb 00000001 01010000 fffff1f0"
            "0000000c 6d646174",
            write_fragment(7, [run]),
        )

    def test_audio_fragment_byte_by_byte(self) -> None:
        """Equal durations are said once, in the header, with the flags; only sizes are listed."""
        run = TrackRun(AUDIO, [audio_sample(2_048, b"one"), audio_sample(3_072, b"three")])
        self.assertHead(
            "00000068 6d6f6f66"
            "00000010 6d666864 00000000 00000001"
            "00000050 74726166"
            "00000018 74666864 00020028 00000002 00000400 02000000"
            "00000014 74666474 01000000 00000000 00000800"
            "0000001c 7472756e 01000201 00000002 00000070"
            "00000003 00000005"
            "00000010 6d646174",
            write_fragment(1, [run]),
        )

    def test_audio_of_unequal_durations(self) -> None:
        """Durations that differ are listed with the sizes."""
        run = TrackRun(AUDIO, [audio_sample(0, b"one"), audio_sample(1_024, b"two", duration=1_023)])
        self.assertHead(
            "0000006c 6d6f6f66"
            "00000010 6d666864 00000000 00000001"
            "00000054 74726166"
            "00000014 74666864 00020020 00000002 02000000"
            "00000014 74666474 01000000 00000000 00000000"
            "00000024 7472756e 01000301 00000002 00000074"
            "00000400 00000003 000003ff 00000003"
            "0000000e 6d646174",
            write_fragment(1, [run]),
        )

    def test_muxed_fragment_offsets_lead_on(self) -> None:
        """Each track has its traf, and its data offset leads past the payloads of those before."""
        video = TrackRun(VIDEO, [video_sample(0, b"picture", keyframe=True)])
        audio = TrackRun(AUDIO, [audio_sample(0, b"sound")])
        self.assertHead(
            "000000b4 6d6f6f66"
            "00000010 6d666864 00000000 00000001"
            "00000050 74726166"
            "00000010 74666864 00020000 00000001"
            "00000014 74666474 01000000 00000000 00000000"
            "00000024 7472756e 01000f01 00000001 000000bc"
            "00000e10 00000007 02000000 00000000"
            "0000004c 74726166"
            "00000018 74666864 00020028 00000002 00000400 02000000"
            "00000014 74666474 01000000 00000000 00000000"
            "00000018 7472756e 01000201 00000001 000000c3"
            "00000005"
            "00000014 6d646174",
            write_fragment(1, [video, audio]),
        )

    def test_payloads_are_not_copied(self) -> None:
        """Behind the head come the very payloads that went in, run after run."""
        video = [video_sample(0, b"x" * 5_000, keyframe=True), video_sample(3_600, b"y" * 100)]
        audio = [audio_sample(0, b"z" * 300)]
        _, *payloads = write_fragment(1, [TrackRun(VIDEO, video), TrackRun(AUDIO, audio)])
        self.assertEqual(3, len(payloads))
        for sample, payload in zip(video + audio, payloads, strict=True):
            self.assertIs(sample.frame.data, payload)


class DescribedTests(SynchronousTestCase):
    """Runs that several fragments are made of."""

    def test_run_is_described_once(self) -> None:
        """A run is described once for all fragments that it is written into, and those are like any others."""
        video = [video_sample(0, b"one", keyframe=True), video_sample(3_600, b"three")]
        audio = [audio_sample(0, b"two"), audio_sample(1_024, b"four")]
        runs = [DescribedRun(VIDEO, video), DescribedRun(AUDIO, audio)]
        with patch("rapidrtmp.cmaf.fragment._describe", wraps=fragments._describe) as describe:
            for number in (1, 9):
                expected = fragment_of(TrackRun(VIDEO, video), TrackRun(AUDIO, audio), number=number)
                describe.reset_mock()
                self.assertEqual(expected, fragment_of(*runs, number=number))
                self.assertEqual(2 if number == 1 else 0, describe.call_count)

    def test_described_runs_are_joined(self) -> None:
        """Runs that were described are joined with what is known of them, as long as it is of one kind."""
        longer = audio_sample(2_048, b"five", duration=1_025)
        for track, first, second, is_known in (
            (VIDEO, [video_sample(0, b"1", keyframe=True)], [video_sample(3_600, b"22"), video_sample(7_200, b"3")], 1),
            (AUDIO, [audio_sample(0, b"1")], [audio_sample(1_024, b"22")], 1),
            (AUDIO, [audio_sample(0, b"1"), audio_sample(1_024, b"22")], [longer], 0),
        ):
            whole = TrackRun(track, [*first, *second])
            runs = DescribedRun(track, first), DescribedRun(track, second)
            self.assertEqual(fragment_of(whole), fragment_of(join_runs(*runs)))
            for run in runs:
                fragment_of(run)
            joined = join_runs(*runs)
            self.assertEqual(fragment_of(whole), fragment_of(joined))
            with patch("rapidrtmp.cmaf.fragment._describe", wraps=fragments._describe) as describe:
                fragment_of(join_runs(*runs))
                self.assertEqual(1 - is_known, describe.call_count)
            self.assertEqual(fragment_of(whole), fragment_of(join_runs(TrackRun(track, first), runs[1])))


class RefusalTests(SynchronousTestCase):
    def test_nothing_to_write(self) -> None:
        """A fragment without runs, or with an empty one, is a bug of the caller."""
        full = TrackRun(VIDEO, [video_sample(0, b"x")])
        for runs in ([], [TrackRun(VIDEO, [])], [full, TrackRun(AUDIO, [])]):
            with self.assertRaises(MisuseError):
                write_fragment(1, runs)

    def test_values_too_large(self) -> None:
        """A value that its field cannot hold is refused, not cut off."""
        for sample in (
            video_sample(0, b"x", duration=1 << 32),
            video_sample(0, b"x", duration=-1),
            video_sample(0, b"x", offset=1 << 31),
            video_sample(0, b"x", offset=-(1 << 31) - 1),
            video_sample(1 << 64, b"x"),
            video_sample(-1, b"x"),
        ):
            with self.assertRaisesRegex(MediaError, "fragment 9: a value does not fit"):
                write_fragment(9, [TrackRun(VIDEO, [sample])])

    def test_values_at_the_limit(self) -> None:
        """The largest values that fit come back as they were."""
        sample = video_sample((1 << 64) - 1, b"x", offset=-(1 << 31), duration=(1 << 32) - 1)
        ((_, _, _, (track,)),) = read_fragments(fragment_of(TrackRun(VIDEO, [sample])), TRACKS)
        (read,) = track.samples
        self.assertEqual(((1 << 64) - 1, (1 << 32) - 1), (read.dts, read.duration))
        self.assertEqual(-(1 << 31), read.pts - read.dts)


class ReadBackTests(SynchronousTestCase):
    @given(
        number=st.integers(0, 0xFFFFFFFF),
        base=st.tuples(st.integers(0, 1 << 60), st.integers(0, 1 << 60)),
        video=st.lists(
            st.tuples(
                st.binary(max_size=30), st.integers(0, 90_000), st.integers(-(1 << 31), (1 << 31) - 1), st.booleans()
            ),
            max_size=6,
        ),
        audio=st.lists(st.tuples(st.binary(max_size=30), st.sampled_from([1_024, 1_023])), max_size=6),
    )
    @settings(max_examples=60)
    @slow
    def test_any_samples_are_found_again(
        self,
        number: int,
        base: tuple[int, int],
        video: list[tuple[bytes, int, int, bool]],
        audio: list[tuple[bytes, int]],
    ) -> None:
        """Whatever goes in, a reader that is not ours finds again: times, sizes, flags, payloads."""
        pictures, sounds = [], []
        dts = base[0]
        for data, duration, offset, keyframe in video:
            pictures.append(video_sample(dts, data, offset=offset, keyframe=keyframe, duration=duration))
            dts += duration
        dts = base[1]
        for data, duration in audio:
            sounds.append(audio_sample(dts, data, duration=duration))
            dts += duration
        runs = [run for run in (TrackRun(VIDEO, pictures), TrackRun(AUDIO, sounds)) if run.samples]
        if not runs:
            return
        data = fragment_of(*runs, number=number)
        (read,) = read_fragments(data, TRACKS)
        expected = [
            TrackFragmentInfo(run.track.id, run.samples[0].frame.dts, [_expected(sample) for sample in run.samples])
            for run in runs
        ]
        self.assertEqual(FragmentInfo(number, 0, len(data), expected), read)


def _expected(sample: Sample) -> tuple[int, int, int, int, bool, bytes]:
    """What the reader should find of a sample."""
    frame = sample.frame
    return (frame.dts, frame.pts, sample.duration, len(frame.data), frame.keyframe, frame.data)


# ── FFmpeg decodes ───────────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _ffmpeg() -> str:
    """Where FFmpeg is. Raises ``SkipTest`` if it is nowhere."""
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise SkipTest(f"no FFmpeg to decode with: {error}") from error


def _run_ffmpeg(*arguments: str, data: bytes = b"") -> bytes:
    """What FFmpeg writes to its output; an error, or one word of complaint, fails the test."""
    command = [_ffmpeg(), "-nostdin", "-v", "error", "-xerror", *arguments, "pipe:1"]
    done = subprocess.run(command, input=data, capture_output=True, timeout=60)
    if done.returncode or done.stderr:
        raise AssertionError(f"ffmpeg returned {done.returncode}: {done.stderr.decode(errors='replace')}")
    return done.stdout


@cache
def _encoded() -> bytes:
    """Two seconds of a moving picture, with B-frames and closed GOPs, and a tone, as FFmpeg itself fragments them."""
    return _run_ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=size=160x120:rate=25", "-f", "lavfi", "-i", "sine=sample_rate=44100"),
        *("-t", "2", "-c:v", "libx264", "-threads", "1", "-bf", "3", "-g", "25", "-pix_fmt", "yuv420p"),
        *("-c:a", "aac", "-ac", "2", "-f", "mp4", "-movflags", "empty_moov+default_base_moof+frag_keyframe"),
    )


def _frames(track: Track, infos: list[TrackInfo], fragments: list[FragmentInfo], shift: int = 0) -> list[Sample]:
    """What FFmpeg encoded for one track, in the track's own ticks, composition offsets moved by ``shift`` of them."""
    (timescale,) = (info.timescale for info in infos if info.track_id == track.id)
    samples = []
    for fragment in fragments:
        for dts, pts, duration, _, keyframe, payload in fragment.tracks[track.id - 1].samples:
            ticks, offset, lasts = (value * track.timescale // timescale for value in (dts, pts - dts, duration))
            frame = Frame(track, ticks, offset + shift, lasts, keyframe, payload, arrived_ms=0)
            samples.append(Sample(frame, lasts))
    return samples


def _source(shift: int = 0) -> tuple[TrackRun, TrackRun]:
    """The encoded picture and sound, each as one long run."""
    infos = read_init_segment(_encoded())
    fragments = read_fragments(_encoded(), infos)
    video = AVC.make_track(1, VideoConfig(infos[0].record, "avc1.64000b", 160, 120))
    audio = AAC.make_track(2, AudioConfig(infos[1].record, "mp4a.40.2", 44_100, 2, 1_024))
    return TrackRun(video, _frames(video, infos, fragments, shift)), TrackRun(audio, _frames(audio, infos, fragments))


def _file_of(*runs: TrackRun, parts: int = 8) -> bytes:
    """An init segment and as many fragments, cut without regard to keyframes."""
    pieces = [write_init_segment([run.track for run in runs])]
    for number in range(parts):
        cuts = [
            run._replace(
                samples=run.samples[len(run.samples) * number // parts : len(run.samples) * (number + 1) // parts]
            )
            for run in runs
        ]
        pieces += write_fragment(number + 1, cuts)
    return b"".join(pieces)


def _report(data: bytes, *options: str) -> list[list[str]]:
    """FFmpeg's table of frames: stream, dts, pts, duration, size, digest."""
    report = _run_ffmpeg("-f", "mp4", "-i", "pipe:0", "-map", "0", *options, "-f", "framemd5", data=data).decode()
    return [[field.strip() for field in line.split(",")] for line in report.splitlines() if not line.startswith("#")]


def _decoded(data: bytes, stream: int) -> list[str]:
    """Digests of one stream's decoded pictures, or of its sound."""
    return [fields[-1] for fields in _report(data) if fields[0] == str(stream)]


@slow
class DecodedByFFmpegTests(SynchronousTestCase):
    """Real frames go in, and FFmpeg, set to stop at the first flaw, decodes from our bytes what was encoded."""

    def assertPackets(self, run: TrackRun, data: bytes, stream: int, later: tuple[int, ...] = (0,)) -> None:
        """Every sample of the run is demuxed, with its payload and its presentation time, all later by one of these."""
        rows = [row for row in _report(data, "-copyts", "-c", "copy") if row[0] == str(stream)]
        shift = int(rows[0][2]) - run.samples[0].frame.pts
        self.assertIn(shift, later)
        expected = [
            [str(frame.pts + shift), str(len(frame.data)), md5(frame.data, usedforsecurity=False).hexdigest()]
            for frame, _ in run.samples
        ]
        self.assertEqual(expected, [[pts, size, digest] for _, _, pts, _, size, digest in rows])

    def test_source_is_worth_the_effort(self) -> None:
        """The source is worth the effort: pictures out of order, several keyframes, and a file FFmpeg likes."""
        video, audio = _source()
        self.assertEqual((50, 88), (len(video.samples), len(audio.samples)))
        self.assertLess({0, 3_600}, {frame.composition_offset for frame, _ in video.samples})
        self.assertEqual([0, 90_000], [frame.dts for frame, _ in video.samples if frame.keyframe])
        self.assertEqual(50, len(set(_decoded(_encoded(), 0))))

    def test_muxed_tracks_decode_together(self) -> None:
        """Pictures and sound together."""
        video, audio = _source()
        data = _file_of(video, audio)
        self.assertPackets(video, data, 0)
        self.assertPackets(audio, data, 1)
        self.assertEqual(_decoded(_encoded(), 0), _decoded(data, 0))
        self.assertEqual(_decoded(_encoded(), 1), _decoded(data, 1))

    def test_negative_offsets_decode_alike(self) -> None:
        """
        Pictures that are presented before the time they are decoded at.

        FFmpeg (5.1 to 9.0) then takes a fragmented track to be later as a whole, by its most negative offset, so that
        nothing is shown before it is decoded; among themselves the times hold.
        """
        video, _ = _source(shift=-7_200)
        self.assertEqual(-7_200, min(frame.composition_offset for frame, _ in video.samples))
        data = _file_of(video)
        self.assertPackets(video, data, 0, later=(0, 7_200))
        self.assertEqual(_decoded(_encoded(), 0), _decoded(data, 0))

    def test_video_only_fragments_decode(self) -> None:
        """Pictures without sound, a fragment for each."""
        video, _ = _source()
        data = _file_of(video, parts=50)
        self.assertPackets(video, data, 0)
        self.assertEqual(_decoded(_encoded(), 0), _decoded(data, 0))

    def test_audio_only_fragments_decode(self) -> None:
        """Sound without pictures."""
        _, audio = _source()
        data = _file_of(audio)
        self.assertPackets(audio, data, 0)
        self.assertEqual(_decoded(_encoded(), 1), _decoded(data, 0))

    def test_damage_is_noticed(self) -> None:
        """The witness is awake: with one data offset wrong by a byte, FFmpeg complains."""
        video, _ = _source()
        data = bytearray(_file_of(video))
        offset_field = data.index(b"trun") + 12
        data[offset_field + 3] ^= 1
        with self.assertRaisesRegex(AssertionError, "ffmpeg returned"):
            _report(bytes(data))
