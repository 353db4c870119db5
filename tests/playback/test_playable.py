from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from rapidrtmp.interfaces import IMediaObject, IPlayable, IPlaylistVersion, IStreamDirectory, IViewers
from rapidrtmp.live.shelf import PlaylistVersion, ShelfObject
from rapidrtmp.names import StreamName
from tests.web.kit import Server, playlist


class PlayableTests(SynchronousTestCase):
    def test_streams_provide_the_interface(self) -> None:
        """In one process, streams and their registry are what the HTTP side sees."""
        server = Server()
        stream = server.live()
        self.assertTrue(verifyObject(IPlayable, stream))
        self.assertTrue(verifyObject(IViewers, stream.viewers))
        self.assertTrue(verifyObject(IStreamDirectory, server.registry))
        self.assertTrue(verifyObject(IPlaylistVersion, PlaylistVersion(playlist())))
        self.assertTrue(verifyObject(IMediaObject, ShelfObject((b"x",), "", "")))

    def test_facts_of_a_live_stream(self) -> None:
        """A stream tells whether more is to come, and how long its segments are."""
        server = Server()
        stream = server.live()
        stream.shelf.put_playlist("index.m3u8", playlist(target_ms=3000))
        self.assertEqual((False, False, 3000), _facts(server))
        stream.interrupted()
        self.assertEqual((True, False, 3000), _facts(server))
        server.registry.end(stream)
        self.assertEqual((False, True, 3000), _facts(server))


def _facts(server: Server) -> tuple[bool, bool, int]:
    playable = server.registry.find(StreamName("live", "k"))
    assert playable is not None
    facts = playable.facts
    return facts.is_interrupted, facts.is_over, facts.target_ms
