"""
``python -m tests``: the unit tests under trial, which is every test but ``tests.e2e``, on all processors.

    --slow    run those that are marked ``@slow`` instead, and after them ``tests.work``, alone in its process

Other arguments go to trial. If they name tests, only those run, slow or not, in one process.

Each processor has a process of its own, which takes one class of tests after the other (:mod:`tests.claimed`). Under
trial's own ``--jobs`` a test runs inside of a worker's reactor: a test that counts objects fails there, and one that
ends its worker takes all others along.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.claimed import CLAIMS, NAMES, SLOW, write_claims

HERE = Path(__file__).parent
#: It counts instructions and memory, which other tests in its process would change.
ALONE = "tests.work"
#: More than this share the disk rather than the work.
MAX_PROCESSES = 4
TEMP_OPTION, SLOW_OPTION = "--temp-directory=", "--slow"
TRIAL = (sys.executable, "-m", "twisted.trial")


def unit_tests() -> list[str]:
    """Every test module and package here, except the end-to-end ones, as trial wants them named."""
    packages = [path.parent.name for path in HERE.glob("*/__init__.py") if path.parent.name != "e2e"]
    modules = [path.stem for path in HERE.glob("test_*.py")]
    return [f"tests.{name}" for name in sorted(packages + modules)]


def _run_all(options: list[str]) -> int:
    """
    Run the processes side by side, each in a folder of its own; what they say appears one after the other.

    :returns: 0 if all have succeeded.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(usable + 1, MAX_PROCESSES)  # one waits now and then
    folders = [each.removeprefix(TEMP_OPTION) for each in options if each.startswith(TEMP_OPTION)] or ["_trial_temp"]
    names = ",".join(name for name in unit_tests() if name != ALONE)
    claims = write_claims()
    chosen = {CLAIMS: str(claims), NAMES: names, SLOW: "1" if SLOW_OPTION in options else "0"}
    kept = [each for each in options if not each.startswith(TEMP_OPTION) and each != SLOW_OPTION]
    with ExitStack() as stack:
        stack.callback(os.close, claims)
        processes = []
        for index in range(count):
            said = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) if index else None
            command = [*TRIAL, *kept, f"{TEMP_OPTION}{folders[-1]}-{index}", "tests.claimed"]
            environment = {**os.environ, **chosen}
            process = subprocess.Popen(command, stdout=said, stderr=said, env=environment, pass_fds=[claims])
            processes.append((process, said))
        failed = False
        for process, said in processes:
            failed = process.wait() != 0 or failed
            if said:
                said.seek(0)
                print(said.read(), flush=True)
    return int(failed)


def main() -> None:
    """See the module."""
    options = sys.argv[1:]
    if any(each.startswith("tests") for each in options):
        sys.exit(subprocess.call([*TRIAL, *options]))
    failed = _run_all(options)
    if SLOW_OPTION in options:
        alone = [each for each in options if each != SLOW_OPTION]
        failed = subprocess.call([*TRIAL, *alone, ALONE]) != 0 or failed
    sys.exit(failed)


if __name__ == "__main__":
    main()
