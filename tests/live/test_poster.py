"""The newest keyframe of a stream as a film of one picture."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.cmaf.describe import describe
from rapidrtmp.cmaf.reader import read_boxes
from rapidrtmp.live.poster import write_poster
from tests.web.kit import Server


class PosterTests(SynchronousTestCase):
    def test_keyframe_becomes_a_film(self) -> None:
        """The newest keyframe, and nothing else, is what the film shows, from its beginning."""
        stream = Server().live()
        keyframe = stream.newest_keyframe
        assert keyframe is not None
        film = write_poster(keyframe)
        boxes = list(read_boxes(film))
        self.assertEqual(["ftyp", "moov", "moof", "mdat"], [box.kind for box in boxes])
        self.assertEqual(bytes(keyframe.data), bytes(boxes[-1].body))
        self.assertIn("baseMediaDecodeTime 0", describe(film))

    def test_no_picture_before_the_first_keyframe(self) -> None:
        """There is no picture before the first keyframe, and none when the stream has ended."""
        server = Server()
        self.assertIsNone(server.publish("starting").newest_keyframe)
        stream = server.live()
        server.registry.end(stream)
        self.assertIsNone(stream.newest_keyframe)
        self.assertEqual(404, server.get("/live/k/poster.mp4").status)

    def test_poster_is_no_viewer(self) -> None:
        """Pages of any origin get the picture, and to look at it is not to watch."""
        server = Server()
        server.live()
        reply = server.get("/live/k/poster.mp4", peer="192.0.2.1")
        self.assertEqual((200, "video/mp4"), (reply.status, reply.headers["content-type"]))
        self.assertEqual("*", reply.headers["access-control-allow-origin"])
        self.assertEqual({"viewers": 0}, server.get("/live/k/viewers.json").json())
