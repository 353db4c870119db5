"""
Which layer of the server the CPU goes to, sampled by py-spy while a load runs.

    python -m benchmarks.layers publishers --count 50 --seconds 20
    python -m benchmarks.layers requests --seconds 10
    python -m benchmarks.layers viewers --count 1000 --seconds 15

A sample counts for the innermost frame that belongs to a layer; what the interpreter and the system do for that frame
is its own: so ``sendmsg`` is with its caller, ``recv`` and ``epoll`` with the reactor. What is generated (the
``__init__`` of a dataclass) is its caller's.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.clip import make_clip, make_mix
from benchmarks.generators import on_other_processors, publishing, watching
from benchmarks.servers import Running, rapidrtmp

SETTLE_S = 6
SAMPLES_PER_S = 250
REQUESTED = "/live/bench0/index.m3u8"
STREAMS_WATCHED = 10

#: By path of a module, from the most special to the most general.
LAYERS: tuple[tuple[str, str], ...] = (
    ("rapidrtmp/net/reactor.py", "reactor and transports"),
    ("rapidrtmp/net/", "RTMP edge"),
    ("rapidrtmp/rtmp/chunk", "chunks"),
    ("rapidrtmp/rtmp/", "session"),
    ("rapidrtmp/codec/", "codec and timeline"),
    ("rapidrtmp/timeline/", "codec and timeline"),
    ("rapidrtmp/live/demuxer.py", "codec and timeline"),
    ("rapidrtmp/live/shelf.py", "shelf"),
    ("rapidrtmp/live/viewers.py", "HTTP"),
    ("rapidrtmp/live/", "live stream"),
    ("rapidrtmp/hls/(playlist|publication|invariants|multivariant)", "playlists"),
    ("rapidrtmp/m3u8/", "playlists"),
    ("rapidrtmp/(hls|cmaf)/", "packaging"),
    ("rapidrtmp/storage/", "storage"),
    ("rapidrtmp/web/fast_path/sending.py", "HTTP: into the socket"),
    ("rapidrtmp/(web|playback|http)/", "HTTP"),
    ("(klein|werkzeug|twisted/web)/", "HTTP: Klein and twisted.web"),
    ("twisted/internet/(base|epollreactor|posixbase|tcp|abstract|task|main).py", "reactor and transports"),
    ("twisted/(logger|python/(log|context)).*", "reactor and transports"),
    ("twisted/internet/(defer|_newtls)", "other"),
)
_PATTERNS = [(re.compile(rf"[( /]{pattern}"), layer) for pattern, layer in LAYERS]


def layer_of(stack: str) -> str:
    """The layer of one line of py-spy's raw format: frames from the outermost on, ``function (file:line);...``."""
    for frame in reversed(stack.split(";")):
        for pattern, layer in _PATTERNS:
            if pattern.search(frame):
                return layer
    return "other"


def shares(lines: Iterable[str]) -> dict[str, float]:
    """What part of all samples each layer has."""
    samples: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        samples[layer_of(stack)] += int(count)
    return {layer: count / samples.total() for layer, count in samples.most_common()}


def sample(server: Running, seconds: int) -> tuple[dict[str, float], float]:
    """Each layer's share, and the CPU-seconds spent, over so many seconds."""
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if program is None:
        raise SystemExit("what takes samples is missing: pip install py-spy")
    with tempfile.NamedTemporaryFile() as raw:
        command = [program, "record", "--full-filenames", "--format=raw", f"--output={raw.name}"]
        command += [f"--pid={server.process.pid}", f"--rate={SAMPLES_PER_S}", f"--duration={seconds}"]
        before = server.cpu_seconds()
        subprocess.run(on_other_processors(command), check=True, capture_output=True)
        return shares(Path(raw.name).read_text().splitlines()), server.cpu_seconds() - before


@contextmanager
def asking(server: Running, connections: int, seconds: int) -> Iterator[None]:
    """So many connections that ask for a playlist as fast as they can."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", f"http://127.0.0.1:{server.http_port}{REQUESTED}"]
    with subprocess.Popen(on_other_processors(command), stdout=subprocess.DEVNULL) as process:
        time.sleep(1)
        yield
        process.wait()


def publishers(server: Running, arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    """While so many publish."""
    with publishing(server, arguments.count or 50, 2 * SETTLE_S + arguments.seconds + 30, "--mixed"):
        time.sleep(2 * SETTLE_S)
        return sample(server, arguments.seconds)


def requests(server: Running, arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    """While so many connections ask for one playlist again and again."""
    with publishing(server, 1, SETTLE_S + arguments.seconds + 60):
        time.sleep(SETTLE_S)
        with asking(server, arguments.count or 64, arguments.seconds + 3):
            return sample(server, arguments.seconds)


def viewers(server: Running, arguments: argparse.Namespace) -> tuple[dict[str, float], float]:
    """While so many watch ten streams with low latency."""
    lasts = 3 * SETTLE_S + arguments.seconds + 60
    with publishing(server, STREAMS_WATCHED, lasts, "--stamp", "--spread=2.33"):
        time.sleep(2 * SETTLE_S)
        options = (f"--streams={STREAMS_WATCHED}", f"--settle={SETTLE_S}")
        with watching(server, arguments.count or 1000, arguments.seconds + 3, *options):
            return sample(server, arguments.seconds)


LOADS = {"publishers": publishers, "requests": requests, "viewers": viewers}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("load", choices=list(LOADS))
    parser.add_argument("--count", type=int, default=0, help="publishers 50, connections 64, or viewers 1000")
    parser.add_argument("--seconds", type=int, default=15)
    arguments = parser.parse_args()
    make_clip()
    make_mix()
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        rapidrtmp(Path(folder), "--storage=memory:", "--sink=hls") as server,
    ):
        spent, cpu_seconds = LOADS[arguments.load](server, arguments)
    print(f"{arguments.load}: {cpu_seconds / arguments.seconds:.3f} of a processor")
    for layer, share in spent.items():
        print(f"{layer:<30}{share:>7.1%}")
    print(json.dumps({**vars(arguments), "cpu_seconds": round(cpu_seconds, 2), "shares": spent}))


if __name__ == "__main__":
    main()
