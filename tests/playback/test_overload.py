"""Those who watch are served in time; those who come are let in, or asked to come again later."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.names import StreamName
from rapidrtmp.playback.overload import FEW, RETURNING_S, SAMPLE_S, SETTLES_S, Overload, OverloadedError
from tests.web.kit import MP4, Reply, Server, Wire, playlist

NAME = StreamName("live", "k")
#: What each of them says it is.
AGENT = "Mozilla/5.0"


class OverloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.busy_s = 0.0
        self.overload = self.make(100)
        self.live(RETURNING_S, share=0.1)

    def make(self, max_lag_ms: int) -> Overload:
        made = Overload(self.clock, lambda: self.busy_s, max_lag_ms)
        made.start()
        self.addCleanup(made.stop)
        return made

    def live(self, seconds: float, share: float, turn_s: float = SAMPLE_S) -> None:
        """Let time pass in turns of the reactor that are so long, with such a share of it spent on work."""
        for _ in range(round(seconds / turn_s)):
            self.busy_s += share * turn_s
            self.clock.advance(turn_s)

    def come(self, viewers: int) -> int:
        """So many viewers at once; how many are let in."""
        let_in = 0
        for _ in range(viewers):
            try:
                self.overload.admit(NAME)
            except OverloadedError:
                continue
            let_in += 1
        return let_in

    def refusal(self) -> OverloadedError:
        return self.assertRaises(OverloadedError, self.overload.admit, NAME)  # type: ignore[no-any-return]

    def test_idle_server_lets_a_crowd_in(self) -> None:
        """A thousand viewers at once come in where there is little to do."""
        self.live(2, share=0.2)
        self.assertEqual(1000, self.come(1000))

    def test_crowd_is_held_to_what_fits(self) -> None:
        """Of a crowd as many come in as will fit at twice the usual cost, and more when they have cost less."""
        self.live(2, share=0.3)
        self.assertEqual(1000, self.come(5000))
        self.live(SETTLES_S - 0.5, share=0.6)
        self.assertEqual(0, self.come(5000))
        self.live(2, share=0.6)
        self.assertEqual(500, self.come(5000))

    def test_busy_server_lets_few_in(self) -> None:
        """A server with hardly any time left, and yet in time, lets a few in, and more only when their cost shows."""
        self.live(2, share=0.99)
        self.assertEqual(FEW, self.come(100))
        self.live(SETTLES_S + 0.2, share=0.99)
        self.assertEqual(FEW, self.come(100))

    def test_late_server_lets_none_in(self) -> None:
        """One whose timers have been late for half a second lets none in until they are not."""
        self.live(2, share=0.5, turn_s=0.25)
        refusal = self.refusal()
        self.assertIn("200 ms late", str(refusal))
        self.live(0.1, share=0.5)
        self.assertEqual(10, self.come(10))

    def test_viewers_return_to_a_new_server(self) -> None:
        """All who watched its forerunner come back at once to a server that has just started, while it is in time."""
        self.overload = self.make(100)
        self.live(2, share=0.99)
        self.assertEqual(5000, self.come(5000))
        self.live(2, share=0.99, turn_s=0.25)
        self.assertEqual(0, self.come(1))

    def test_short_delay_is_no_overload(self) -> None:
        """A single long turn, as of a collection of garbage, refuses no viewer."""
        self.live(2, share=0.5)
        self.live(0.45, share=1.0, turn_s=0.45)
        self.assertEqual(10, self.come(10))

    def test_lag_at_the_limit(self) -> None:
        """Timers that are as late as allowed refuse no viewer, a millisecond more does."""
        self.live(3, share=0.5, turn_s=0.15)
        self.assertEqual(1, self.come(1))
        self.live(3, share=0.5, turn_s=0.151)
        self.assertEqual(0, self.come(1))

    def test_refused_do_not_return_at_once(self) -> None:
        """Those who are refused are sent away for different times, longer if the server is late."""
        self.live(2, share=0.99)
        self.come(FEW)
        times = {int(self.refusal().headers["Retry-After"]) for _ in range(100)}
        self.assertEqual(set(range(10, 21)), times)
        self.live(4, share=0.3)
        self.come(1000)
        times = {int(self.refusal().headers["Retry-After"]) for _ in range(100)}
        self.assertEqual({2, 3, 4}, times)

    def test_no_limit_lets_all_in(self) -> None:
        """Where the operator sets no limit every viewer comes in, and nothing is measured."""
        self.overload.stop()
        self.overload = self.make(0)
        self.live(2, share=1.0, turn_s=1.0)
        self.assertEqual(5000, self.come(5000))
        self.assertEqual([], self.clock.getDelayedCalls())

    def test_refusals_are_told_for_a_minute(self) -> None:
        """How many viewers of a stream were refused is known for a minute, and counted for good."""
        self.live(2, share=0.99)
        self.come(FEW + 3)
        self.assertEqual(3, self.overload.refused_lately(NAME))
        self.assertEqual(0, self.overload.refused_lately(StreamName("live", "other")))
        self.live(61, share=0.1)
        self.assertEqual(0, self.overload.refused_lately(NAME))
        values = {sample.name: sample.value for family in self.overload.metrics() for sample in family.samples}
        self.assertEqual(3, values["rapidrtmp_viewers_refused_total"])
        self.assertApproximates(0.1, values["rapidrtmp_reactor_busy_ratio"], 0.01)


class OverloadedServerTests(SynchronousTestCase):
    """Over HTTP, at a server that has been late for a second or will be."""

    def setUp(self) -> None:
        self.server = Server(find_busy_s=lambda: 0.0, max_viewer_lag_ms=100)
        assert self.server.overload is not None
        self.server.overload.start()
        self.addCleanup(self.server.overload.stop)
        self.stream = self.server.live()
        self.stream.shelf.put_playlist("index.m3u8", playlist())
        self.stream.shelf.put("segment_9.m4s", (b"segment",), MP4)
        self.stream.shelf.put("master.m3u8", (b"#EXTM3U\n",), "application/vnd.apple.mpegurl")

    def be_late(self) -> None:
        for _ in range(4):
            self.server.clock.advance(0.3)

    def get(self, number: int, name: str, **headers: str) -> Reply:
        return self.server.get(f"/live/k/{name}", peer=f"192.0.2.{number}", User_Agent=AGENT, **headers)

    def test_newcomers_are_told_to_come_later(self) -> None:
        """A client that begins to watch gets 503 with Retry-After, whichever way its request goes, and is no viewer."""
        self.be_late()
        for name in ("index.m3u8", "master.m3u8"):
            for headers in ({}, {"Cookie": "a=b"}):
                refused = self.get(1, name, **headers)
                self.assertEqual(503, refused.status)
                self.assertIn(int(refused.headers["retry-after"]), range(10, 21))
                self.assertEqual("*", refused.headers["access-control-allow-origin"])
                self.assertIn("ms late", refused.json()["error"])
        self.assertEqual(0, self.stream.viewers.count(int(self.server.clock.seconds() * 1000)))
        self.assertEqual(4, self.server.metric("viewers_refused_total"))

    def test_viewers_on_air_are_not_asked(self) -> None:
        """A client that watches gets playlists and media, on connections that are new as well."""
        self.assertEqual(200, self.get(1, "index.m3u8").status)
        self.be_late()
        for name in ("index.m3u8", "master.m3u8", "index.m3u8?_HLS_msn=9", "segment_9.m4s"):
            self.assertEqual(200, self.get(1, name).status, name)
        self.assertEqual(503, self.get(2, "index.m3u8").status)

    def test_shared_address_is_told_apart(self) -> None:
        """Where many watch from one address, those of them are known that are on a connection that served them."""
        wires = [self.server.connect("192.0.2.1") for _ in range(6)]
        for wire in wires:
            self.assertEqual(200, self.ask(wire, "index.m3u8").status)
            self.assertEqual(200, self.ask(wire, "segment_9.m4s").status)
        self.be_late()
        for wire in wires:
            self.assertEqual(200, self.ask(wire, "index.m3u8").status)
            self.assertEqual(200, self.ask(wire, "index.m3u8", Cookie="a=b").status)
        self.assertEqual(503, self.get(1, "index.m3u8").status)

    def test_held_connection_is_kept(self) -> None:
        """A client that is refused may ask again on the same connection, and is let in when there is time."""
        self.be_late()
        wire = self.server.connect("192.0.2.1")
        self.assertEqual(503, self.ask(wire, "index.m3u8").status)
        self.server.clock.advance(0.05)
        self.assertEqual(200, self.ask(wire, "index.m3u8").status)

    def ask(self, wire: Wire, name: str, **headers: str) -> Reply:
        wire.request("GET", f"/live/k/{name}", User_Agent=AGENT, **headers)
        return wire.reply()

    def test_unknown_streams_stay_unknown(self) -> None:
        """What is not there is not there, however late the server is."""
        self.be_late()
        self.assertEqual(404, self.server.get("/live/other/index.m3u8").status)
