"""
A server that is killed, again and again: a program, ``python -P mortal.py FOLDER CLIP SEED LIVES``.

One process loads everything once and forks a child for each life, so that a hundred lives take half a minute. A child
is the whole server, on the directory that the one before left, with a publisher inside that sends the FLV tags of the
clip. It lives in a world whose clocks run fast, all of them alike, and until its parent kills it.

What happened is in ``FOLDER/lives/NNN.jsonl``, a JSON array to a line, written at once by who may be dead right after:

=================================  ====================================================================================
``["frame", START, END]``          a frame of video was handed to the recorder; decode times in ticks
``["put", KEY, SIZE, CRC32]``      the storage was about to be asked for an object
``["stored", KEY]``                it said that it has it; ``"lost"`` if not
``["playlist", NAME, TEXT]``       viewers were shown this
``["spoiled", START, SIZE]``       when it was dead: the journal of this recording was cut off here, or deleted (-1)
=================================  ====================================================================================
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.internet.main import installReactor
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.archive.layout import CATALOGUE
from rapidrtmp.interfaces import Playlist, Purpose, Verdict
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.live.stream import LiveStream
from rapidrtmp.media import Frame, MediaKind
from rapidrtmp.names import StreamName
from rapidrtmp.net.publisher import Publisher
from rapidrtmp.net.reactor import LeanReactor
from rapidrtmp.recording import catalogue, recovery
from rapidrtmp.rtmp.events import AudioReceived, VideoReceived
from rapidrtmp.server import service as server
from rapidrtmp.settings.sources import load_settings
from rapidrtmp.storage import leases, probe
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.support import clock
from rapidrtmp.support.clock import now_ms

__all__: list[str] = []

STREAM = StreamName("live", "cam")
SPEED = 25.0
#: A life ends somewhere in so many times what the first one took until it had stored something, on this machine now.
LONGEST_LIFE = 4.0
#: Within these bounds: those behind it have more to do, as they continue with what is there.
LONGEST_LIVES_S = 0.7, 2.0
#: When the first one has had time enough, whatever the machine does.
FIRST_LIFE_S = 20.0
#: When the clocks of this world meet those of the disk, from its beginning: until then no file looks old.
BEHIND_S = 3_600
SINKS = ["hls:segment=1s:window=5:dvr=1m", "record:segment=2s:part=333ms:rotate=0"]
#: The publisher waits while more than this is on its way to the disk: what the storage may be behind is documented.
MOST_PENDING = 8
TURN_S = 0.1
WATCH_MS = 250
#: The journal of one recording in so many is spoiled.
SPOILED_EVERY = 7


class FastReactor(LeanReactor):
    """The server's reactor; its seconds are shorter."""

    def seconds(self) -> float:
        """As ever, but fast."""
        return time.monotonic() * SPEED

    def doPoll(self, timeout: float | None) -> None:
        """Wait for what will seem as long."""
        super().doPoll(timeout and timeout / SPEED)

    doIteration = doPoll


# ── what is said of a life ───────────────────────────────────────────────────────────────────────────────────────────


class Witness:
    """Looks over the shoulders of the stream, the queue and the shelves of this process, and says what they do."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def close(self) -> None:
        """There is no more to be said."""
        os.close(self._file)

    def say(self, *line: object) -> None:
        """One line; it outlives the process."""
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def watch(self) -> None:
        """Begin."""
        self._watch_stream(LiveStream.frame_received)
        self._watch_queue(WriteBehind.put_in_lane)
        self._watch_shelf(Shelf.put_playlist)

    def _watch_stream(self, received: Any) -> None:
        def frame_received(stream: LiveStream, frame: Frame) -> None:
            received(stream, frame)
            if frame.track.kind is MediaKind.VIDEO:
                self.say("frame", frame.dts, frame.dts + frame.duration)

        LiveStream.frame_received = frame_received  # type: ignore[method-assign]

    def _watch_queue(self, put: Any) -> None:
        def put_in_lane(queue: WriteBehind, lane: str, key: str, data: Sequence[bytes], *types: str) -> Deferred[None]:
            whole = b"".join(data)
            self.say("put", key, len(whole), crc32(whole))
            written: Deferred[None] = put(queue, lane, key, data, *types)
            return written.addCallbacks(lambda _: self.say("stored", key), lambda failure: self._lost(key, failure))

        WriteBehind.put_in_lane = put_in_lane  # type: ignore[assignment, method-assign]

    def _lost(self, key: str, failure: Failure) -> Failure:
        self.say("lost", key, str(failure.value))
        return failure

    def _watch_shelf(self, put: Any) -> None:
        def put_playlist(shelf: Shelf, name: str, playlist: Playlist) -> None:
            self.say("playlist", name, playlist.body.decode())
            put(shelf, name, playlist)

        Shelf.put_playlist = put_playlist  # type: ignore[method-assign]


# ── one life ─────────────────────────────────────────────────────────────────────────────────────────────────────────

#: Type, timestamp in milliseconds, and body.
Tag = tuple[int, int, bytes]


def read_tags(data: bytes) -> Iterator[Tag]:
    """The tags of an FLV file (Adobe Flash Video File Format 10.1, E.3)."""
    at = int.from_bytes(data[5:9], "big") + 4
    while at < len(data):
        size = int.from_bytes(data[at + 1 : at + 4], "big")
        timestamp = int.from_bytes(data[at + 4 : at + 7], "big") | data[at + 7] << 24
        yield data[at], timestamp, data[at + 11 : at + 11 + size]
        at += 11 + size + 4


class Encoder:
    """Publishes the tags, each when its time has come, as soon as the server lets publishers in."""

    peer = "inside"
    role = None
    state = None
    bytes_received = 0
    is_paused = True  # so it is never taken for silent

    def __init__(self, reactor: Any, service: server.RapidRtmpService, tags: Sequence[Tag]) -> None:
        self._reactor = reactor
        self._service = service
        self._queue: WriteBehind = service.applications[STREAM.app].stores[Purpose.LIVE].writer
        self._tags = tags
        self._sent = 0
        self._is_read = True
        self.session = self  # what little of it a publisher asks for

    def begin(self) -> None:
        """Wait for the door to open, then publish."""
        if not any(check.name == "listening" and check.ok for check in self._service.readiness.checks()):
            self._reactor.callLater(TURN_S, self.begin)
            return
        self._begun_ms = self._watched_ms = now_ms(self._reactor)
        verdict, services = Verdict(True, credential="the same"), self._service.rtmp_factory.services
        self._publisher = Publisher(self, services, STREAM, verdict, msid=1)  # type: ignore[arg-type]
        self._send()

    def _send(self) -> None:
        time_ms = now_ms(self._reactor)
        while self._is_read and self._queue.pending_objects <= MOST_PENDING and self._sent < len(self._tags):
            kind, timestamp, body = self._tags[self._sent]
            if timestamp > time_ms - self._begun_ms:
                break
            if kind in (8, 9):
                make = VideoReceived if kind == 9 else AudioReceived
                self._publisher.react(make(1, timestamp, body), time_ms)
            self._sent += 1
        if time_ms - self._watched_ms >= WATCH_MS:
            self._watched_ms = time_ms
            self._publisher.watch(time_ms)
        self._reactor.callLater(TURN_S, self._send)

    # ── its connection, as the publisher knows it ──

    def advise(self, advice: str) -> None:
        """It knows better."""

    def flush(self) -> None:
        """Nothing is sent to it."""

    def pause_reading(self) -> None:
        """It waits."""
        self._is_read = False

    def resume_reading(self) -> None:
        """It continues."""
        self._is_read = True

    def set_low_water_mark(self, size: int) -> None:
        """Nothing is read from it."""

    def close(self) -> None:
        """It never is."""
        raise AssertionError("disconnected")


def live(folder: Path, number: int, tags: Sequence[Tag], witness: Witness) -> None:
    """Be the server until death."""
    globalLogBeginner.beginLoggingTo(
        [textFileLogObserver((folder / "lives" / f"{number:03d}.log").open("w", buffering=1))],
        redirectStandardIO=False,
    )
    catalogue.WRITER = recovery.WRITER = secrets.token_hex(8)  # the parent's is not ours
    epoch_s = float((folder / "epoch").read_text())
    clock.time = SimpleNamespace(  # type: ignore[assignment]
        monotonic=lambda: time.monotonic() * SPEED,
        time_ns=lambda: int((epoch_s + (time.time() - epoch_s) * SPEED) * 1_000_000_000),
    )
    for patient, name in ((server, "RECOVERY_S"), (probe, "PROBE_TIMEOUT_S"), (leases, "CLAIM_TIMEOUT_S")):
        setattr(patient, name, getattr(patient, name) * SPEED)  # the disk is no faster than ever
    sys.modules.pop("twisted.internet.reactor", None)  # nor is its
    reactor = FastReactor()
    installReactor(reactor)  # type: ignore[no-untyped-call]
    witness.watch()
    settings = load_settings({}, {}, folder / "config.toml").settings
    service = server.make_service(reactor, settings, choose_plugins(settings))
    reactor.callWhenRunning(service.startService)
    reactor.callWhenRunning(Encoder(reactor, service, tags).begin)
    reactor.run()  # type: ignore[no-untyped-call]


# ── all of them ──────────────────────────────────────────────────────────────────────────────────────────────────────

CONFIG = f"""
[server]
rtmp = ["tcp:0:interface=127.0.0.1"]
http = ["tcp:0:interface=127.0.0.1"]
sinks = {json.dumps(SINKS)}
[storage]
spec = "local:store"
[live]
grace = "1h"
"""


def main(folder: Path, clip: Path, seed: int, lives: int) -> None:
    """Let a server live and die so often. Exits with a line if one dies by itself."""
    os.chdir(folder)
    (folder / "lives").mkdir()
    (folder / "epoch").write_text(str(time.time() + BEHIND_S))
    (folder / "config.toml").write_text(CONFIG)
    tags = list(read_tags(clip.read_bytes()))
    chance = random.Random(seed)
    longest_s = 0.0
    for number in range(lives):
        witness = Witness(folder / "lives" / f"{number:03d}.jsonl")
        child = os.fork()
        if not child:
            try:
                live(folder, number, tags, witness)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(1)
        if not number:
            shortest_s, most_s = LONGEST_LIVES_S
            longest_s = min(max(LONGEST_LIFE * time_until_stored(witness.path), shortest_s), most_s)
        time.sleep(chance.uniform(0, longest_s) if number else longest_s)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise SystemExit(f"life {number} ended by itself, with status {status}")
        if number % SPOILED_EVERY == SPOILED_EVERY - 1:
            spoil(folder / "store", witness, chance)
        witness.close()


def time_until_stored(path: Path) -> float:
    """Wait until a life says that something of a recording was stored; in seconds."""
    began = time.monotonic()
    while (taken := time.monotonic() - began) < FIRST_LIFE_S:
        if '["stored", "recordings/' in path.read_text():
            break
        time.sleep(0.01)
    return taken


def spoil(store: Path, witness: Witness, chance: random.Random) -> None:
    """Delete the journal of the newest recording, or cut it off somewhere, if no one has closed that yet."""
    newest = max((store / "recordings" / STREAM.app / STREAM.key).glob("*"), default=None)
    if newest is None or '"recording"' not in (store / CATALOGUE / str(STREAM) / f"{newest.name}.json").read_text():
        return
    for page in newest.glob("journal_*.jsonl"):
        size = chance.choice((-1, chance.randrange(page.stat().st_size)))
        witness.say("spoiled", newest.name, size)
        if size < 0:
            page.unlink()
        else:
            os.truncate(page, size)


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve(), int(sys.argv[3]), int(sys.argv[4]))
