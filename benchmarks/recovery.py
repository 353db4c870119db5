"""
How long viewers wait when a server was killed and is started again, and when they can rewind again.

    python -m benchmarks.recovery --hours 2 48 --streams 1 10

A storage is filled with what a killed server leaves whose rewind windows (``hls:dvr``) were full; then a server is
started on it. What counts, in seconds from when it opened its ports: until ``/ready`` is answered and all streams have
their playlists, and until ``dvr.m3u8`` of all of them is back. Publishers come as soon as it is ready.

Then the same with a storage in memory that answers each operation after 100 ms. That time is not waited for but
counted, so that both parts are seen: how long the storage was waited for, and the CPU time that was spent.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock

from benchmarks.abandoned import SEGMENT_S, leave_in_memory, leave_on_disk
from benchmarks.clip import make_clip
from benchmarks.generators import publishing
from benchmarks.servers import Running, rapidrtmp
from rapidrtmp.hls.names import REWIND_PLAYLIST
from rapidrtmp.hls.sink import HlsSinkFactory
from rapidrtmp.live.numbering import Numbering
from rapidrtmp.live.recovery import Recovery
from rapidrtmp.live.shelf import Shelf
from rapidrtmp.server.service import RECOVERY_S
from rapidrtmp.storage.memory import MemoryStorage
from rapidrtmp.storage.store import Store
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.testing.sinks import make_sink_context
from rapidrtmp.testing.storage import UnreliableStorage

LATENCY_S, STEP_S, PUBLISHED_S, GIVEN_UP_S = 0.1, 0.05, 200, 600.0
#: Larger storages take minutes to fill, and gigabytes of inodes.
MOST_STREAM_HOURS = 50


def ask(server: Running, path: str) -> tuple[int, bytes]:
    """One GET, whatever the answer."""
    connection = HTTPConnection("127.0.0.1", server.http_port, timeout=GIVEN_UP_S)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def await_rewind(server: Running, number: int, begin: float) -> int:
    """Wait until a stream's long playlist is up; how many segments that lists."""
    while time.monotonic() - begin < GIVEN_UP_S:
        status, body = ask(server, f"/live/bench{number}/{REWIND_PLAYLIST}")
        if status == 200:
            return body.count(b"#EXTINF")
        time.sleep(0.1)
    raise SystemExit(f"bench{number}: {REWIND_PLAYLIST} does not return")


def on_disk(hours: int, streams: int, directory: Path) -> dict[str, Any]:
    """A server on a local disk."""
    with tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-", dir=directory) as folder:
        leave_on_disk(Path(folder) / "streams", streams, hours * 3600)
        with rapidrtmp(Path(folder), "--storage=local:streams", f"--sink=hls:dvr={hours}h") as server:
            begin = time.monotonic()
            ask(server, "/ready")
            ready_s = time.monotonic() - begin
            gone_on = sum(ask(server, f"/live/bench{each}/index.m3u8")[0] == 200 for each in range(streams))
            with publishing(server, streams, PUBLISHED_S):
                listed = min(await_rewind(server, each, begin) for each in range(streams))
            return {
                "ready_s": ready_s,
                "rewind_s": time.monotonic() - begin,
                "cpu_s": server.cpu_seconds(),
                "gone_on": gone_on,
                "whole": listed >= hours * 3600 // SEGMENT_S,
            }


def far_away(hours: int, streams: int) -> dict[str, Any]:
    """The recovery alone, on a storage that takes its time."""
    clock, memory = Clock(), MemoryStorage()
    leave_in_memory(memory, streams, hours * 3600)
    clock.advance(1)
    storage = UnreliableStorage(memory, clock, LATENCY_S)
    writer = WriteBehind(storage, clock)
    numbering = Numbering(utc_ms)
    factory = HlsSinkFactory(dvr=f"{hours}h")
    store = Store("storage", storage, writer)
    recovery = Recovery({"live": {"hls": factory}}, [store], lambda _app, _factory: store, numbering, utc_ms)
    begin_cpu, done = time.process_time(), list[None]()
    recovery.run(clock, RECOVERY_S).addCallback(done.append)
    ready_s = advance(clock, lambda: bool(done))
    shelves = []
    for name in recovery.streams():
        shelves.append(Shelf())
        context = make_sink_context(
            stream=name,
            shelf=shelves[-1],
            storage=writer.lane(f"{name}/hls"),
            first_sequence=numbering.first(),
            recovered=recovery.take(name)["hls"],
        )
        factory.create(context)
    recovery.work_afterwards()
    rewind_s = ready_s + advance(clock, lambda: all(shelf.find_playlist(REWIND_PLAYLIST) for shelf in shelves))
    listed = [
        version.facts.body.count(b"#EXTINF") for shelf in shelves if (version := shelf.find_playlist(REWIND_PLAYLIST))
    ]
    recovery.stop()
    return {
        "ready_s": ready_s,
        "rewind_s": rewind_s,
        "cpu_s": time.process_time() - begin_cpu,
        "gone_on": len(shelves),
        "whole": min(listed, default=0) >= hours * 3600 // SEGMENT_S,
    }


def utc_ms() -> int:
    """The time of day."""
    return time.time_ns() // 1_000_000


def advance(clock: Clock, done: Callable[[], bool]) -> float:
    """Let time pass until something is done; how much that was in seconds."""
    begin = clock.seconds()
    while not done() and clock.seconds() - begin < GIVEN_UP_S:
        clock.advance(STEP_S)
    return clock.seconds() - begin


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--hours", type=int, nargs="*", default=[2, 48])
    parser.add_argument("--streams", type=int, nargs="*", default=[1, 10])
    parser.add_argument("--all", action="store_true", help=f"also more than {MOST_STREAM_HOURS} hours of all streams")
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to use")
    arguments = parser.parse_args()
    make_clip()
    rows = []
    print(f"{'':<34}{'ready':>8}{'rewind':>9}{'CPU':>8}{'resumed':>9}{'whole':>7}")
    for where, hours, streams in product(("disk", "100 ms away"), arguments.hours, arguments.streams):
        if hours * streams > MOST_STREAM_HOURS and not arguments.all:
            continue
        row = on_disk(hours, streams, arguments.directory) if where == "disk" else far_away(hours, streams)
        print(
            f"{f'{where}, {streams} x {hours} h':<34}{row['ready_s']:>6.2f} s{row['rewind_s']:>7.1f} s"
            f"{row['cpu_s']:>6.1f} s{row['gone_on']:>9}{'yes' if row['whole'] else 'NO':>7}",
            flush=True,
        )
        rows.append({"where": where, "hours": hours, "streams": streams, **row})
    print(json.dumps({"results": rows}))


if __name__ == "__main__":
    main()
