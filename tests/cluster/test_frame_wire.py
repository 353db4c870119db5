"""Tests of frames between nodes: what is written is read, however it is cut."""

from __future__ import annotations

from fractions import Fraction

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cluster.frame_wire import FrameReader, Said, write_frame, write_said, write_tracks
from rapidrtmp.errors import PeerProtocolError
from rapidrtmp.media import AudioConfig, Colour, ContentLight, Frame, MediaKind, Rhythm, Track, VideoConfig

VIDEO = Track(
    1,
    MediaKind.VIDEO,
    "hvc1",
    VideoConfig(
        b"\x01record",
        "hvc1.1",
        1280,
        720,
        (4, 3),
        Fraction(30000, 1001),
        Colour(1, 1, 1, False),
        light=ContentLight(9, 8),
    ),
)
AUDIO = Track(2, MediaKind.AUDIO, "mp4a", AudioConfig(b"\x12\x10", "mp4a.40.2", 48_000, 2, 1024), "deu", "Zürich")


class FrameWireTests(SynchronousTestCase):
    def test_what_is_written_is_read(self) -> None:
        """Tracks and frames arrive as they were sent, byte by byte, and the rest of a stream's life with them."""
        frames = [
            Frame(VIDEO, 5_000_000_000, -3003, 3003, True, b"picture", 7, Rhythm(Fraction(30000, 1001))),
            Frame(AUDIO, 77, 0, 1024, True, b"", 7),
            Frame(VIDEO, 5_000_003_003, 6006, 3003, False, b"another", 7),
        ]
        sent = write_tracks((VIDEO, AUDIO), ("one", "other")) + b"".join(map(write_frame, frames))
        sent += write_said(Said.DISCONTINUITY) + write_said(Said.INTERRUPTED) + write_said(Said.FINISHED)
        reader, messages = FrameReader(), []
        for byte in sent:
            reader.receive_data(bytes([byte]))
            messages += reader.messages()
        (said, body), *rest = messages
        self.assertIs(Said.TRACKS, said)
        self.assertEqual(((VIDEO, AUDIO), ("one", "other")), reader.read_tracks(body))
        tracks = {1: VIDEO, 2: AUDIO}
        self.assertEqual(frames, [reader.read_frame(body, tracks, 7) for said, body in rest if said is Said.FRAME])
        self.assertEqual([Said.DISCONTINUITY, Said.INTERRUPTED, Said.FINISHED], [said for said, _ in rest[-3:]])

    def test_nonsense_is_refused(self) -> None:
        """What makes no sense is refused as a node's fault."""
        reader = FrameReader()
        for data in (b"\x09\0\0\0\0", b"\x01\xff\xff\xff\xff"):
            broken = FrameReader()
            broken.receive_data(data)
            self.assertRaises(PeerProtocolError, list, broken.messages())
        for body in (b"", b"{}", b'{"tracks": [{"Nothing": {}}], "via": []}'):
            self.assertRaises(PeerProtocolError, reader.read_tracks, body)
        for body in (b"", write_frame(Frame(VIDEO, 1, 0, 1, True, b"", 0))[5:]):
            self.assertRaises(PeerProtocolError, reader.read_frame, body, {2: AUDIO}, 0)
