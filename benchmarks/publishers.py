"""
The load generator: N publishers that send a clip in real time, each from its own connection.

As real encoders do, they may begin at any moment and differ (``--mixed``): each takes one of several clips, and begins
at a random moment of some seconds; the same ones in every run. Else all send one clip, evenly spaced over ``--spread``.

Every byte is prepared before the clock starts, so that sending is all that is left to do; how late each message left
and how much of a processor that took is measured and reported, for a generator that falls behind would flatter the
server. It ends early on SIGTERM, with its report.

    python -m benchmarks.publishers --port 1935 --count 50 --seconds 20
"""

from __future__ import annotations

import argparse
import heapq
import json
import random
import signal
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.clip import ENCODERS, KILOBITS, Tag, make_clip, make_mix, read_tags, repeat

#: Chunk streams as FFmpeg uses them: 3 for commands, 4 for audio and data, 6 for video, 8 for publish.
COMMAND, AUDIO, VIDEO, PUBLISH = 3, 4, 6, 8
#: What a TCP segment carries over Ethernet, in bytes; over loopback it is 64 kB, and servers see another world.
ETHERNET_MSS = 1448
#: Over how long publishers of a mixed load begin, in seconds: the longest GOP. Which moments is the seed's matter.
MIXED_SPREAD_S, SEED = 4.0, 1

#: What goes before the stamp in a frame: an SEI message of user data, under a UUID of its own (ITU-T H.264, D.1.7).
STAMP_MARK = b"RapidRTMP-sent-at:"
STAMP_SIZE = 16


class Due(NamedTuple):
    """Bytes to send, at a moment of the clip; ``stamp_at`` is where the moment of sending goes, 0 for nowhere."""

    time_ms: int
    data: bytes
    stamp_at: int = 0

    def stamped(self) -> bytes:
        """The bytes with the time of this machine's monotonic clock in them, in microseconds."""
        if not self.stamp_at:
            return self.data
        stamp = b"%016d" % (time.monotonic_ns() // 1000)
        return self.data[: self.stamp_at] + stamp + self.data[self.stamp_at + STAMP_SIZE :]


def with_stamps(tag: Tag) -> Tag:
    """A video frame with room for a stamp before its picture; any other tag as it is."""
    if tag.kind != 9 or tag.is_config:
        return tag
    message = STAMP_MARK + b"0" * STAMP_SIZE  # the first 16 bytes stand for the UUID
    nal_unit = b"\x06\x05" + bytes([len(message)]) + message + b"\x80"
    return tag._replace(payload=tag.payload[:5] + struct.pack(">I", len(nal_unit)) + nal_unit + tag.payload[5:])


def _string(text: str) -> bytes:
    return b"\x02" + struct.pack(">H", len(text)) + text.encode()


def _number(value: float) -> bytes:
    return b"\x00" + struct.pack(">d", value)


def _command(csid: int, msid: int, body: bytes) -> bytes:
    """A command message in chunks of 128, the size before any is set."""
    header = bytes([csid]) + b"\0\0\0" + len(body).to_bytes(3, "big") + b"\x14" + struct.pack("<I", msid)
    pieces = [body[at : at + 128] for at in range(0, len(body), 128)]
    return header + bytes([0xC0 | csid]).join(pieces)


def connect_commands(app: str, key: str) -> tuple[bytes, bytes]:
    """What a publisher says up to ``createStream``, and then."""
    url = f"rtmp://127.0.0.1/{app}"
    properties = b"".join(
        struct.pack(">H", len(name)) + name.encode() + _string(value)
        for name, value in (("app", app), ("type", "nonprivate"), ("flashVer", "FMLE/3.0"), ("tcUrl", url))
    )
    connect = _string("connect") + _number(1) + b"\x03" + properties + b"\0\0\x09"
    create = _string("createStream") + _number(2) + b"\x05"
    publish = _string("publish") + _number(3) + b"\x05" + _string(key) + _string("live")
    return _command(COMMAND, 0, connect) + _command(COMMAND, 0, create), _command(PUBLISH, 1, publish)


def write_chunks(tags: Iterable[Tag], chunk_size: int) -> Iterator[Due]:
    """Media messages in chunks, with one-byte continuations and short headers, as encoders write them."""
    last: dict[int, int] = {}
    for tag in tags:
        csid = VIDEO if tag.kind == 9 else AUDIO
        length, kind = len(tag.payload).to_bytes(3, "big"), bytes([tag.kind])
        if csid in last and tag.time_ms >= last[csid]:
            header = bytes([0x40 | csid]) + (tag.time_ms - last[csid]).to_bytes(3, "big") + length + kind
        else:
            header = bytes([csid]) + tag.time_ms.to_bytes(3, "big") + length + kind + struct.pack("<I", 1)
        last[csid] = tag.time_ms
        pieces = [tag.payload[at : at + chunk_size] for at in range(0, len(tag.payload), chunk_size)]
        data = header + bytes([0xC0 | csid]).join(pieces)
        mark = data.find(STAMP_MARK, 0, 256)
        yield Due(tag.time_ms, data, mark + len(STAMP_MARK) if mark >= 0 else 0)


def set_chunk_size(size: int) -> bytes:
    """The control message."""
    return b"\x02\0\0\0\0\0\x04\x01\0\0\0\0" + struct.pack(">I", size)


@dataclass
class Publisher:
    """One connection."""

    connection: socket.socket
    script: list[Due]
    starts: float = 0.0
    position: int = 0


def open_publisher(host: str, port: int, app: str, key: str, chunk_size: int, mss: int = ETHERNET_MSS) -> socket.socket:
    """
    Connect, shake hands, and publish; the server's answers are read where they decide something.

    :param mss: what a TCP segment carries at most; 0 for what the network does.
    """
    connection = socket.socket()
    connection.settimeout(30)
    if mss:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, mss)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.connect((host, port))
    connection.sendall(b"\x03" + bytes(1536))
    answer = b""
    while len(answer) < 3073:
        answer += connection.recv(65536)
    opening, publish = connect_commands(app, key)
    connection.sendall(answer[1:1537] + opening)
    _await(connection, answer[3073:], b"_result", 2)
    connection.sendall(publish)
    _await(connection, b"", b"NetStream.Publish.Start", 1)
    connection.sendall(set_chunk_size(chunk_size))
    connection.setblocking(True)
    return connection


def make_scripts(arguments: argparse.Namespace) -> list[list[Due]]:
    """All that is to be sent, for each clip."""
    paths = make_mix() if arguments.mixed else [make_clip(kilobits=arguments.kilobits, codec=arguments.codec)]
    scripts = []
    for path in paths:
        clip = list(read_tags(path))
        if arguments.stamp:
            clip = list(map(with_stamps, clip))
        scripts.append(list(write_chunks(repeat(clip, arguments.seconds), arguments.chunk)))
    return scripts


def open_publishers(arguments: argparse.Namespace) -> list[Publisher]:
    """All of them, some at a time: a server may take its time over each (nginx-rtmp 60 ms)."""
    scripts = make_scripts(arguments)

    def open_one(number: int) -> Publisher:
        key = arguments.key.format(number)
        connection = open_publisher(arguments.host, arguments.port, arguments.app, key, arguments.chunk, arguments.mss)
        return Publisher(connection, scripts[number % len(scripts)])

    with ThreadPoolExecutor(16) as pool:
        return list(pool.map(open_one, range(arguments.count)))


def starts_of(arguments: argparse.Namespace) -> list[float]:
    """When each begins, in seconds from the first moment on."""
    if arguments.mixed:
        moments = random.Random(SEED)
        return [moments.uniform(0, MIXED_SPREAD_S) for _ in range(arguments.count)]
    return [arguments.spread * number / arguments.count for number in range(arguments.count)]


def _await(connection: socket.socket, heard: bytes, word: bytes, times: int) -> None:
    while heard.count(word) < times:
        data = connection.recv(65536)
        if not data:
            raise SystemExit(f"the server closed the connection before {word.decode()}: {heard[-300:]!r}")
        heard += data


def run(arguments: argparse.Namespace) -> dict[str, float]:
    """Publish until the end; return what was sent, how late messages left, and how busy that kept a processor."""
    publishers = open_publishers(arguments)
    print("ready", flush=True)
    begin = time.monotonic() + 0.2
    for publisher, starts in zip(publishers, starts_of(arguments), strict=True):
        publisher.starts = begin + starts
    begin_cpu = time.process_time()
    lateness = play(publishers)
    cpu_share = (time.process_time() - begin_cpu) / (time.monotonic() - begin)
    for publisher in publishers:
        publisher.connection.close()
    lateness.sort()
    return {
        "messages": len(lateness),
        "bytes": sum(len(due.data) for each in publishers for due in each.script[: each.position]),
        "late_p50_ms": round(lateness[len(lateness) // 2] * 1000, 2),
        "late_p99_ms": round(lateness[len(lateness) * 99 // 100] * 1000, 2),
        "late_max_ms": round(lateness[-1] * 1000, 2),
        "cpu_share": round(cpu_share, 3),
    }


def play(publishers: list[Publisher]) -> list[float]:
    """Send everything when it is due, until SIGTERM; return the lateness of each message in seconds."""
    stops: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: stops.append(number))
    queue = [(each.starts + each.script[0].time_ms / 1000, number) for number, each in enumerate(publishers)]
    heapq.heapify(queue)
    lateness = []
    while queue and not stops:
        due, number = heapq.heappop(queue)
        wait = due - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        publisher = publishers[number]
        script = publisher.script
        publisher.connection.sendall(script[publisher.position].stamped())
        lateness.append(max(0.0, time.monotonic() - due))
        publisher.position += 1
        if publisher.position < len(script):
            heapq.heappush(queue, (publisher.starts + script[publisher.position].time_ms / 1000, number))
    return lateness


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1935)
    parser.add_argument("--app", default="live")
    parser.add_argument("--key", default="bench{}", help="stream key; {} is the publisher's number")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--chunk", type=int, default=4096)
    parser.add_argument("--kilobits", type=int, default=KILOBITS, help="of video a second")
    parser.add_argument("--codec", default="h264", choices=list(ENCODERS), help="of the clip that all send")
    parser.add_argument("--spread", type=float, default=1 / 30, help="seconds from the first to begin to the last")
    parser.add_argument("--mixed", action="store_true", help="different clips, begun at random moments")
    parser.add_argument("--mss", type=int, default=ETHERNET_MSS, help="of TCP; 0 for the network's own")
    parser.add_argument("--stamp", action="store_true", help="put the moment of sending into each video frame")
    print(json.dumps(run(parser.parse_args())), flush=True)


if __name__ == "__main__":
    main()
