"""
What reading chunks costs: ``python benchmarks/chunk_parser.py``.

The load is one publisher's: 720p30 H.264 at 2.5 Mbit/s with 44.1 kHz AAC at 128 kbit/s, 73 messages and about 330 kB a
second, a keyframe every two seconds, with the headers that FFmpeg and OBS write (fmt 0 once, then fmt 1). It is fed
message by message, as over loopback, and in 1448-byte pieces, as over Ethernet. Figures are process CPU time, the
least of several rounds; compare rows of one run, not of two.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from rapidrtmp.rtmp.chunk import ChunkReader
from rapidrtmp.rtmp.chunk_limits import AUDIO, VIDEO
from rapidrtmp.rtmp.chunk_rules import PlainChunkReader

SECONDS = 10
CHUNK_SIZES = (128, 4096, 60000)
SEGMENT = 1448
READERS = {"rules alone": PlainChunkReader, "with spans": ChunkReader}


def load() -> Iterator[tuple[int, int, int, int]]:
    """The messages of ten seconds: ``(csid, milliseconds since the last on it, type, length)``, by time."""
    frames = []
    for number in range(30 * SECONDS):
        length = 62_500 if number % 60 == 0 else 9_650  # 60 frames: 632 kB in two seconds
        frames.append((number * 1000 // 30, 6, 33, VIDEO, length))
    for number in range(43 * SECONDS):
        frames.append((number * 1024 * 1000 // 44_100, 4, 23, AUDIO, 373))
    for _, csid, delta, type_id, length in sorted(frames):
        yield csid, delta, type_id, length


def written(chunk_size: int) -> list[bytes]:
    """The load on the wire, message by message."""
    seen: set[int] = set()
    wire = []
    for csid, delta, type_id, length in load():
        header = delta.to_bytes(3, "big") + length.to_bytes(3, "big") + bytes([type_id])
        header = bytes([0x40 | csid]) + header if csid in seen else bytes([csid]) + header + b"\x01\0\0\0"
        seen.add(csid)
        payload = bytes(range(256)) * (length // 256 + 1)
        chunks = [payload[start : min(start + chunk_size, length)] for start in range(0, length, chunk_size)]
        wire.append(header + bytes([0xC0 | csid]).join(chunks))
    return wire


def cpu_seconds(reader_class: type[PlainChunkReader], chunk_size: int, pieces: list[bytes], expected: int) -> float:
    """Process CPU time for reading the load once."""
    reader = reader_class()
    reader.chunk_size = chunk_size
    count = 0
    start = time.process_time()
    for piece in pieces:
        reader.receive_data(piece)
        for _ in reader.messages():
            count += 1
    elapsed = time.process_time() - start
    if count != expected:
        raise SystemExit(f"read {count} messages instead of {expected}")
    return elapsed


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="CPU time of the chunk layer, per message and per stream-second.")
    parser.add_argument("--rounds", type=int, default=15, help="rounds per row, of which the least counts (15)")
    rounds = parser.parse_args().rounds
    print(f"{'chunk size':>10}  {'fed by':<9}  {'reader':<12}  {'µs/message':>10}  {'CPU-ms/stream-second':>20}")
    for chunk_size in CHUNK_SIZES:
        messages = written(chunk_size)
        wire = b"".join(messages)
        segments = [wire[start : start + SEGMENT] for start in range(0, len(wire), SEGMENT)]
        for fed_by, pieces in (("message", messages), (f"{SEGMENT}", segments)):
            for name, reader_class in READERS.items():
                least = min(cpu_seconds(reader_class, chunk_size, pieces, len(messages)) for _ in range(rounds))
                per_message, per_second = least / len(messages) * 1e6, least / SECONDS * 1e3
                print(f"{chunk_size:>10}  {fed_by:<9}  {name:<12}  {per_message:>10.2f}  {per_second:>20.3f}")


if __name__ == "__main__":
    main()
