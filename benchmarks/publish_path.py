"""
What a publisher's messages cost from `dataReceived` to the shelf, without sockets: the part of ingest that is ours.

    python -m benchmarks.publish_path --seconds 60 [--profile]

One publish is fed into the real server's RTMP factory, message by message, on a clock that jumps from one to the next.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Callable, Sequence

from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from benchmarks.clip import make_clip, read_tags, repeat
from benchmarks.publishers import Due, connect_commands, set_chunk_size, write_chunks
from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.hls.names import MEDIA_PLAYLIST
from rapidrtmp.names import StreamName
from rapidrtmp.server.service import make_service
from rapidrtmp.settings.model import AppSettings, Settings


class _Reactor(Clock):
    """Only a clock, but for what sinks are given to work with."""

    def spawnProcess(self, *_arguments: object, **_named: object) -> None:
        raise NotImplementedError


def play(script: Sequence[Due], chunk_size: int) -> Callable[[], None]:
    """A publish that is accepted and waits to be played."""
    settings = Settings(apps={"live": AppSettings(auth=("open",), storage="memory:", recordings="memory:")})
    clock = _Reactor()
    service = make_service(clock, settings, choose_plugins(settings))
    factory = service.rtmp_factory
    protocol = factory.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1))
    assert protocol is not None
    transport = StringTransport()
    protocol.makeConnection(transport)
    protocol.dataReceived(b"\x03" + bytes(1536))
    opening, publish = connect_commands("live", "bench")
    protocol.dataReceived(transport.value()[1:1537] + opening + publish + set_chunk_size(chunk_size))
    stream = service.registry.find(StreamName("live", "bench"))
    if stream is None or b"NetStream.Publish.Start" not in transport.value():
        raise SystemExit("the publish was not accepted")

    def run() -> None:
        for due in script:
            clock.rightNow = due.time_ms / 1000
            protocol.dataReceived(due.data)
        if stream.playlist(MEDIA_PLAYLIST) is None:
            raise SystemExit("nothing came out of it: see the log above")

    return run


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", action="store_true", help="show where one round spends its time")
    arguments = parser.parse_args()
    script = list(write_chunks(repeat(list(read_tags(make_clip())), arguments.seconds), arguments.chunk))
    if arguments.profile:
        profile = cProfile.Profile()
        profile.runcall(play(script, arguments.chunk))
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    spent = []
    for _ in range(arguments.rounds):
        run = play(script, arguments.chunk)
        begun = time.process_time()
        run()
        spent.append(time.process_time() - begun)
    least = min(spent)
    result = {
        "us_per_message": round(least * 1e6 / len(script), 1),
        "cpu_ms_per_stream_second": round(least * 1000 / arguments.seconds, 2),
    }
    print(f"{result['us_per_message']} µs a message, {result['cpu_ms_per_stream_second']} CPU-ms per stream-second")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
