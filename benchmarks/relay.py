"""
What it costs to push a stream on: CPU-milliseconds per relayed stream-second, beside nginx-rtmp's push in the same run.

    python -m benchmarks.relay --publishers 20 --seconds 20 --rounds 3

Each server takes the same publishers and makes HLS of them, once as it is and once with every stream pushed to an
nginx-rtmp that does nothing else; what the second run costs more is the push. CPU time is that of the server's process
tree; the target's does not count.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from benchmarks.ingest import COST, Figures, Load, cost, make_clips, medians
from benchmarks.servers import Running, nginx, rapidrtmp

OURS, PEER = "rapidrtmp, low latency, in memory", "nginx-rtmp, HLS to disk"


def _rapidrtmp(scratch: Path, push_to: int) -> AbstractContextManager[Running]:
    configuration = scratch / "push.toml"
    push = f'push = [{{url = "rtmp://127.0.0.1:{push_to}/live", key = "{{key}}"}}]\n' if push_to else ""
    configuration.write_text(f"[apps.live]\n{push}")
    return rapidrtmp(scratch, "--storage=memory:", "--sink=hls", f"--config={configuration}")


CONTENDERS: dict[str, Callable[[Path, int], AbstractContextManager[Running]]] = {
    PEER: lambda scratch, push_to: nginx(scratch, hls=True, push_to=push_to),
    OURS: _rapidrtmp,
}


def run(contender: str, load: Load, seconds: float, *, push: bool) -> float:
    """The cost of a stream-second, in CPU-milliseconds."""
    with (
        tempfile.TemporaryDirectory(prefix="rapidrtmp-target-") as elsewhere,
        tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-") as folder,
        nginx(Path(elsewhere), hls=False) as target,
        CONTENDERS[contender](Path(folder), target.rtmp_port if push else 0) as server,
    ):
        before = target.cpu_seconds()
        figures: Figures = cost(server, load.publishers, seconds, *load.options)
        if push and target.cpu_seconds() - before < 0.01:
            raise SystemExit(f"{contender} has pushed nothing")
        return figures[COST]


def run_round(load: Load, seconds: float) -> dict[str, Figures]:
    """One round: each server without and with the push."""
    found: dict[str, Figures] = {}
    for contender in CONTENDERS:
        without, pushed = (run(contender, load, seconds, push=push) for push in (False, True))
        found[contender] = {"without": without, "pushed": pushed, "push": pushed - without}
    for figures in found.values():
        figures["times_nginx"] = figures["push"] / max(found[PEER]["push"], 0.001)
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--publishers", type=int, default=20)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    load = Load(arguments.publishers)
    make_clips([load])
    rounds = [run_round(load, arguments.seconds) for _ in range(arguments.rounds)]
    summary = {name: medians([each[name] for each in rounds]) for name in CONTENDERS}
    print(f"{load}, {arguments.rounds} rounds; CPU-ms per stream-second")
    print(f"{'':<36}{'without':>10}{'pushed':>10}{'the push':>10}{'× nginx':>9}")
    for name, row in summary.items():
        print(f"{name:<36}{row['without']:>10.2f}{row['pushed']:>10.2f}{row['push']:>10.2f}{row['times_nginx']:>9.2f}")
    print(json.dumps({**load._asdict(), "rounds": arguments.rounds, "results": summary}))


if __name__ == "__main__":
    main()
