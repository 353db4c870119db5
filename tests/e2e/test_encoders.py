"""
What becomes of real encoders' streams on their way to a viewer: frame rates, B-frames, chunk sizes, clocks that wrap.

All streams of one encoder are published to one server at the same time; each test is then a claim about all of them,
and a failure names the streams that it is about.
"""

from __future__ import annotations

import functools
import itertools
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from twisted.trial.unittest import SkipTest

from tests.e2e.encoders import (
    CLIP_S,
    Process,
    Stream,
    carried_by_gstreamer,
    encoded_by_gstreamer,
    published_by_ffmpeg,
)
from tests.e2e.ffmpeg import FFMPEG, Clip, Packet, Packets, decode, read_packets
from tests.e2e.harness import DEADLINE_S, EndToEndTest, Server, eventually, fetch, new_folder
from tests.e2e.playlists import MediaPlaylist, parse_media_playlist
from tests.e2e.viewer import in_parallel

SETTINGS = """
[live]
grace = "{grace}"
[apps.live]
sinks = ["hls:segment=1s:window=60"]
"""

FILM, PAL, NTSC, NTSC_FAST = Fraction(24_000, 1001), Fraction(25), Fraction(30_000, 1001), Fraction(60_000, 1001)
#: The timestamp field of 24 bits is full in the middle of a clip; likewise, FLV's clock wraps there, and RTMP's.
NEAR_24_BITS, NEAR_31_BITS, NEAR_32_BITS = 0xFFFFF0 - 2_400, 2**31 - 2_400, 2**32 - 2_400
BEYOND_24_BITS = 20_000_000
#: Frames are dropped here and there: two of seven and eleven.
VARIABLE = ("-vf", "select='not(eq(mod(n,7),3))*not(eq(mod(n,11),5))'", "-fps_mode", "vfr")
#: A tick of 1/90000 s is what rounding may do to a place on the grid; a millisecond each is what encoders round to.
TICK = Fraction(1, 90_000)
TOLERANCE_S = Fraction(2, 1000)


# ── what happens ─────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Result:
    """
    What became of one stream.

    :ivar sent: the packets that the encoder sent.
    :ivar received: those that viewers got; ``playlist`` is the final one.
    :ivar decoded: what FFmpeg said while decoding them.
    """

    stream: Stream
    sent: Packets
    received: Packets
    playlist: MediaPlaylist
    decoded: str


def publish_all(streams: Sequence[Stream]) -> dict[str, Result]:
    """Publish streams to one server, all at the same time, and fetch what comes out."""
    server = Server(new_folder("encoders"), SETTINGS.format(grace="1s"))
    results: dict[str, Result] = {}

    def publish(stream: Stream) -> None:
        folder = new_folder(stream.name)
        process = Process(stream, server.issue_token(stream.name).publish_url, folder)
        try:
            status = process.wait(DEADLINE_S)
        finally:
            process.kill()
        if status:
            raise AssertionError(f"{stream.name}: the encoder ended with status {status}:\n{process.said}")
        playlist, whole = fetch_all(server, stream.name, folder)
        results[stream.name] = Result(stream, process.packets(), read_packets(whole), playlist, decode(whole))

    try:
        for stream in streams:
            stream.command("rtmp://127.0.0.1/x", new_folder("prepared"))  # clips are encoded now, not meanwhile
        in_parallel(*(functools.partial(publish, stream) for stream in streams))
        server.stop()
        complaints = server.complaints()
        if complaints:
            raise AssertionError(f"{complaints}\n{server.log}")
        return results
    except Exception as error:
        raise AssertionError(f"{error}\n── log of the server ──\n{server.log}") from error
    finally:
        server.kill()


def fetch_all(server: Server, name: str, folder: Path, app: str = "live") -> tuple[MediaPlaylist, Path]:
    """Wait for the end of a stream; its final playlist, and a file with its init segment and all its segments."""
    url = f"{server.root}/{app}/{name}"

    def final() -> MediaPlaylist | None:
        answer = fetch(f"{url}/index.m3u8")
        playlist = parse_media_playlist(answer.text) if answer.status == 200 else None
        return playlist if playlist is not None and playlist.ended else None

    playlist = eventually(f"{name} to end", final)
    segments = playlist.complete
    names = [segments[0].map_uri, *(segment.uri for segment in segments)]
    whole = folder / "received.mp4"
    whole.write_bytes(b"".join(fetch(f"{url}/{name}").body for name in names))
    return playlist, whole


def track(packets: Packets, kind: str) -> Sequence[Packet]:
    """The packets of one kind of track; none if there is no such track."""
    return packets.tracks.get(kind, ())


def digests(packets: Sequence[Packet]) -> list[str]:
    """The hashes of packets."""
    return [packet.digest for packet in packets]


# ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Claims:
    """What holds for every stream of every encoder."""

    wanted: ClassVar[str]
    package: ClassVar[str]

    def streams(self) -> list[Stream]:
        """What to publish."""
        raise NotImplementedError

    def setUp(self) -> None:
        if shutil.which(self.wanted) is None:
            raise SkipTest(f"no {self.wanted} here; Debian has it in {self.package}")

    def results(self) -> dict[str, Result]:
        """What became of the streams, which are published when first asked for."""
        made = _made.get(type(self))
        if made is None:
            try:
                made = publish_all(self.streams())
            except Exception as error:
                made = error
            _made[type(self)] = made
        if isinstance(made, Exception):
            raise made
        return made

    def hold(self, claim: Callable[[Result], str]) -> None:
        """Hold all streams to a claim, which returns what is wrong with one."""
        wrong = {name: problem for name, result in self.results().items() if (problem := claim(result))}
        if wrong:
            raise AssertionError("\n".join(f"{name}: {problem}" for name, problem in wrong.items()))

    def test_decodes_without_an_error(self) -> None:
        """A decoder that stops at the first error has nothing to say."""
        self.hold(lambda result: result.decoded)

    def test_every_packet_comes_out(self) -> None:
        """Every packet sent comes out, in order and byte for byte, and no other."""

        def claim(result: Result) -> str:
            kinds = [kind for kind in ("video", "audio") if track(result.sent, kind)]
            if sorted(result.received.tracks) != sorted(kinds):
                return f"tracks {list(result.received.tracks)}"
            return "; ".join(
                f"{kind}: {len(track(result.received, kind))} packets of {len(track(result.sent, kind))}"
                for kind in kinds
                if digests(track(result.received, kind)) != digests(track(result.sent, kind))
            )

        self.hold(claim)

    def test_video_is_on_its_grid(self) -> None:
        """At a constant frame rate each frame is where counting frames puts it, whatever milliseconds it came with."""

        def claim(result: Result) -> str:
            rate, bent = result.stream.frame_rate, result.stream.bent
            if rate is None:
                return ""
            times = [packet.dts for packet in track(result.received, "video")[bent:]]
            off = [at for at, time in enumerate(times) if abs(time - times[0] - at / rate) > TICK]
            return f"{len(off)} frames beside the grid, the first one {bent + off[0]}" if off else ""

        self.hold(claim)

    def test_audio_is_on_its_sample_clock(self) -> None:
        """Audio frames follow each other by their samples exactly."""

        def claim(result: Result) -> str:
            steps = {(after.dts - before.dts) for before, after in itertools.pairwise(track(result.received, "audio"))}
            wrong = steps - {Fraction(1024, result.stream.sample_rate)} if result.stream.sample_rate else steps
            return f"steps of {sorted(map(float, wrong))} s" if wrong else ""

        self.hold(claim)

    def test_times_are_as_sent(self) -> None:
        """Every frame is presented when the encoder said, so sound and picture are as far apart as they were."""

        def claim(result: Result) -> str:
            shifts = [
                received.pts - sent.pts
                for kind in ("video", "audio")
                for sent, received in zip(track(result.sent, kind), track(result.received, kind), strict=False)
            ]
            spread = max(shifts) - min(shifts)
            return f"moved by {float(min(shifts))} s to {float(max(shifts))} s" if spread > TOLERANCE_S else ""

        self.hold(claim)

    def test_one_piece_without_discontinuity(self) -> None:
        """There is no discontinuity, one init segment, and as many seconds of segments as of media."""

        def claim(result: Result) -> str:
            segments = result.playlist.complete
            seconds = float(sum(segment.duration for segment in segments))
            if any(segment.discontinuity for segment in segments):
                return "a discontinuity"
            if len({segment.map_uri for segment in segments}) != 1:
                return "more than one init segment"
            return f"{seconds} s of segments" if abs(seconds - CLIP_S) > 0.2 else ""

        self.hold(claim)


_made: dict[type, dict[str, Result] | Exception] = {}


def _offset(start_ms: int) -> tuple[str, str]:
    """FFmpeg's option to let timestamps begin there; in FLV it writes them modulo 2**31."""
    return "-output_ts_offset", f"{start_ms / 1000:.3f}"


def _clip(name: str, frame_rate: Fraction | None, sample_rate: int, channels: int, b_frames: int) -> Clip:
    return Clip(name, CLIP_S, frame_rate, sample_rate, channels, b_frames)


class FFmpegTests(Claims, EndToEndTest):
    """The FFmpeg that the tests bring with them: a current one."""

    wanted, package = FFMPEG, "imageio-ffmpeg (a Python package)"

    def streams(self) -> list[Stream]:
        return [
            published_by_ffmpeg(FFMPEG, _clip("film", FILM, 48_000, 1, b_frames=2)),
            published_by_ffmpeg(FFMPEG, _clip("pal", PAL, 44_100, 2, b_frames=0)),
            published_by_ffmpeg(FFMPEG, _clip("ntsc", NTSC, 44_100, 1, b_frames=3)),
            published_by_ffmpeg(FFMPEG, _clip("fast", Fraction(60), 48_000, 2, b_frames=1)),
            published_by_ffmpeg(FFMPEG, _clip("near-24-bits", Fraction(30), 48_000, 2, 2), *_offset(NEAR_24_BITS)),
            published_by_ffmpeg(FFMPEG, _clip("near-31-bits", PAL, 44_100, 1, 2), *_offset(NEAR_31_BITS)),
            published_by_ffmpeg(
                FFMPEG, Clip("variable", CLIP_S, Fraction(60), 48_000, 2, more=VARIABLE), "-flvflags", "no_metadata"
            ),
        ]


class SystemFFmpegTests(Claims, EndToEndTest):
    """The FFmpeg of the system: an older one, as many encoders have inside."""

    wanted, package = "ffmpeg", "ffmpeg"

    def streams(self) -> list[Stream]:
        publish = functools.partial(published_by_ffmpeg, shutil.which(self.wanted) or "")
        return [
            publish(_clip("film", FILM, 44_100, 2, b_frames=0)),
            publish(_clip("fast", NTSC_FAST, 48_000, 1, b_frames=2)),
            publish(_clip("double", Fraction(50), 48_000, 2, b_frames=1), "-flvflags", "no_sequence_end"),
            publish(_clip("beyond-24-bits", NTSC, 48_000, 2, b_frames=0), *_offset(BEYOND_24_BITS)),
            publish(_clip("near-24-bits", PAL, 44_100, 1, b_frames=2), *_offset(NEAR_24_BITS)),
            publish(_clip("near-31-bits", Fraction(30), 48_000, 1, b_frames=0), *_offset(NEAR_31_BITS)),
            publish(Clip("variable", CLIP_S, Fraction(30), 44_100, 1, 2, more=VARIABLE)),
            publish(_clip("video", PAL, 0, 0, b_frames=2)),
            publish(_clip("audio", None, 44_100, 2, b_frames=0)),
        ]


class Rtmp2SinkTests(Claims, EndToEndTest):
    """GStreamer's own RTMP: chunks of 128 bytes, transaction ids of 0, names where numbers belong."""

    wanted, package = "gst-launch-1.0", "gstreamer1.0-tools (and -plugins-good, -bad, -ugly and -libav)"
    sink = "rtmp2sink"

    def streams(self) -> list[Stream]:
        encode = functools.partial(encoded_by_gstreamer, sink=self.sink)
        carry = functools.partial(carried_by_gstreamer, sink=self.sink)
        return [
            encode("ntsc", frame_rate=NTSC, sample_rate=44_100, channels=1, options="chunk-size=65536"),
            encode("double", frame_rate=Fraction(50), sample_rate=48_000, options="chunk-size=2147483647"),
            encode("bframes", frame_rate=PAL, sample_rate=48_000, b_frames=2),
            encode("narrow", frame_rate=Fraction(30), sample_rate=44_100, options="chunk-size=127"),
            carry("near-24-bits", clip=_clip("tags", PAL, 48_000, 2, b_frames=2), start_ms=NEAR_24_BITS),
            carry("beyond-24-bits", clip=_clip("tags", NTSC, 44_100, 1, 0), start_ms=BEYOND_24_BITS),
            carry(
                "near-31-bits", clip=_clip("tags", FILM, 44_100, 2, 0), start_ms=NEAR_31_BITS, options="chunk-size=4096"
            ),
        ]


class RtmpSinkTests(Claims, EndToEndTest):
    """librtmp, which OBS and most hardware descend from: everything on one chunk stream, deltas that go backwards."""

    wanted, package = "gst-launch-1.0", "gstreamer1.0-tools (and -plugins-good, -bad, -ugly and -libav)"
    sink = "rtmpsink"

    def streams(self) -> list[Stream]:
        encode = functools.partial(encoded_by_gstreamer, sink=self.sink)
        carry = functools.partial(carried_by_gstreamer, sink=self.sink)
        return [
            encode("film", frame_rate=FILM, sample_rate=48_000),
            encode("fast", frame_rate=Fraction(60), sample_rate=44_100, channels=1),
            encode("bframes", frame_rate=Fraction(30), sample_rate=44_100, b_frames=2),
            encode("video", frame_rate=Fraction(24)),
            encode("audio", sample_rate=48_000),
            carry("near-24-bits", clip=_clip("tags", PAL, 48_000, 2, b_frames=2), start_ms=NEAR_24_BITS),
            carry("near-31-bits", clip=_clip("tags", NTSC, 44_100, 1, 0), start_ms=NEAR_31_BITS),
            carry("near-32-bits", clip=_clip("tags", FILM, 44_100, 2, 2), start_ms=NEAR_32_BITS),
        ]


class ReturnTests(EndToEndTest):
    """Encoders that vanish without a word, and come back."""

    def _killed_and_back(self, stream: Stream) -> tuple[Process, Result]:
        """Publish, kill after two segments, publish again to the end."""
        server = self.start_server(SETTINGS.format(grace="20s"))
        url = server.issue_token(stream.name).publish_url
        playlist_url = f"{server.root}/live/{stream.name}/index.m3u8"
        folders = [new_folder("killed"), new_folder("back")]
        first = Process(stream, url, folders[0])
        self.addCleanup(first.kill)
        eventually("two segments", lambda: fetch(playlist_url).text.count("#EXTINF") >= 2)
        first.kill()
        second = Process(stream, url, folders[1])
        self.addCleanup(second.kill)
        self.assertEqual(0, second.wait(DEADLINE_S), second.said)
        # The API ends the stream now; the grace time is for those that may come back.
        stopped = fetch(f"{server.root}/api/v1/streams/{stream.name}/stop", method="POST")
        self.assertEqual(200, stopped.status, stopped.text)
        playlist, whole = fetch_all(server, stream.name, folders[1])
        return first, Result(stream, second.packets(), read_packets(whole), playlist, decode(whole))

    def _check(self, stream: Stream) -> None:
        _, result = self._killed_and_back(stream)
        self.assertEqual("", result.decoded)
        self.assertEqual([True], [each.discontinuity for each in result.playlist.complete if each.discontinuity])
        for kind in ("video", "audio"):
            sent, received = digests(track(result.sent, kind)), digests(track(result.received, kind))
            before = received[: -len(sent)]
            self.assertEqual(sent, received[-len(sent) :], f"{kind} after the return")
            self.assertTrue(before, f"no {kind} from before")
            self.assertEqual(sent[: len(before)], before, f"{kind} from before")

    def test_ffmpeg_returns_without_loss(self) -> None:
        """FFmpeg killed and started again costs one discontinuity; of what arrived not a packet is lost."""
        self._check(published_by_ffmpeg(FFMPEG, _clip("back", Fraction(30), 48_000, 2, b_frames=2)))

    def test_gstreamer_returns_without_loss(self) -> None:
        """So does GStreamer, though it was in the middle of a message of many chunks."""
        if shutil.which(Rtmp2SinkTests.wanted) is None:
            raise SkipTest(f"no {Rtmp2SinkTests.wanted} here; Debian has it in {Rtmp2SinkTests.package}")
        self._check(encoded_by_gstreamer("back", "rtmp2sink", PAL, 44_100))
