"""What signals do to the running server, by the real ones."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sequence
from functools import partial

from tests.e2e.ffmpeg import CLIPS, FFMPEG
from tests.e2e.harness import SERVE, TWIST, TWISTD, EndToEndTest, Server, eventually, new_folder
from tests.e2e.watched import Watched

HARMLESS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
PROGRAMS = (TWISTD, SERVE, TWIST)


class SignalTests(EndToEndTest):
    def live_server(self, program: Sequence[str]) -> Server:
        """A server with a stream that has two segments."""
        server = self.start_server('[hls]\nsegment = "1s"\n[server]\non_stop = "end"\n', program=program)
        self.publish(FFMPEG, CLIPS["plain"].path, server.issue_token("mine").publish_url)
        watched = Watched("mine")
        eventually("two segments", lambda: watched.has(server, 2))
        return server

    def test_harmless_signals_end_nothing(self) -> None:
        """HUP, USR1 and USR2 end nothing, and HUP is a line in the log."""
        for program in PROGRAMS:
            server = self.live_server(program)
            for number in HARMLESS:
                server.send_signal(number)
            eventually("the line", lambda server=server: "received SIGHUP" in server.log)
            self.assertEqual("live", server.get("/api/v1/streams/mine").json()["state"])
            server.stop()

    def test_stop_signals_stop_in_order(self) -> None:
        """TERM, INT and QUIT stop in one order: the stored playlist is ended, and all is said in the log."""
        for program in PROGRAMS:
            for number in STOPPING:
                server = self.live_server(program)
                server.stop(number)
                self.assertIn("#EXT-X-ENDLIST", (server.store / "live" / "mine" / "index.m3u8").read_text())
                self.assertIn("live/mine has ended: the server is shutting down", server.log)

    def test_repeated_stop_is_one_line(self) -> None:
        """A second request while the server stops is a line in the log: no traceback, and the stop is as ever."""
        for number in STOPPING:
            server = self.live_server(TWISTD)
            server.send_signal(signal.SIGTERM)
            eventually("it to begin", lambda server=server: "shutting down" in server.log)
            server.stop(number)
            self.assertIn("already stopping", server.log)
            self.assertIn("#EXT-X-ENDLIST", (server.store / "live" / "mine" / "index.m3u8").read_text())

    def test_hang_up_while_starting(self) -> None:
        """A hang-up at any moment from the first that Python is ours leaves the start as it is."""
        for program in (TWISTD, SERVE):
            ended = threading.Event()
            server = self.start_server(program=program, meanwhile=partial(self._hang_up, ended))
            self.addCleanup(ended.set)
            ended.set()
            self.assertEqual(200, server.get("/health").status)
            server.stop()

    def _hang_up(self, ended: threading.Event, server: Server) -> None:
        """Send HUP again and again as soon as the process does not die of it by default."""
        eventually("a handler", lambda: server.handles(signal.SIGHUP))

        def send() -> None:
            while not ended.wait(0.01):
                server.send_signal(signal.SIGHUP)

        threading.Thread(target=send, daemon=True).start()

    def test_log_file_is_opened_anew(self) -> None:
        """With a log file, USR1 opens it anew after it was moved away."""
        folder = new_folder("logged")
        program = (*TWISTD[:-1], "--logfile", "server.log", TWISTD[-1])
        server = self.start_server(program=program, folder=folder, log_name="server.log")
        (folder / "server.log").rename(folder / "server.log.old")
        server.send_signal(signal.SIGUSR1)
        eventually("a new file", lambda: (folder / "server.log").exists() and "reopened the log" in server.log)
        server.stop()
        self.assertIn("stopped", server.log)
