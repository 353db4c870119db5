"""
A player that does with FFmpeg's libraries what OBS's media source does: no buffer in the demuxer, 2 MB for the network.

    python media_source.py URL [PACKETS]

It says how long it took to the first packet, in seconds, and ends with the stream, or after so many packets.
"""

from __future__ import annotations

import sys
import time

import av

OPTIONS = {"fflags": "nobuffer", "buffer_size": str(2 << 20)}


def main(url: str, most: int = 1 << 30) -> None:
    """See the module."""
    begun, packets = time.monotonic(), 0
    with av.open(url, options=OPTIONS) as source:
        for packet in source.demux():
            if packet.dts is None:
                continue
            if not packets:
                print(f"first {time.monotonic() - begun:.3f}", flush=True)
            packets += 1
            if packets >= most:
                return
    print(f"packets {packets}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
