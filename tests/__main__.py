"""
``python -m tests``: the quick unit tests under trial, on all processors.

    --slow    run the unit tests that are marked ``@slow`` instead, and after them ``tests.work``, alone in its process
    --e2e     run ``tests.e2e`` instead, and ``tests.storage`` again, which has an emulated bucket there; and after them
              the players of the web, alone

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
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.claimed import CLAIMS, NAMES, SPEED, write_claims

HERE = Path(__file__).parent
#: It counts instructions and memory, which other tests in its process would change.
ALONE = "tests.work"
#: Seven players in one browser, which need all processors.
ALONE_END_TO_END = "tests.e2e.test_players"
#: More than this share the disk rather than the work.
MAX_PROCESSES = 4
TEMP_OPTION, SLOW_OPTION, END_TO_END_OPTION = "--temp-directory=", "--slow", "--e2e"
TRIAL = (sys.executable, "-m", "twisted.trial")


def unit_tests() -> list[str]:
    """Every test module and package here, except the end-to-end ones, as trial wants them named."""
    packages = [path.parent.name for path in HERE.glob("*/__init__.py") if path.parent.name != "e2e"]
    modules = [path.stem for path in HERE.glob("test_*.py")]
    return [f"tests.{name}" for name in sorted(packages + modules)]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def end_to_end_tests() -> list[str]:
    """Every module with servers, encoders and players, and the storage, which has an emulated bucket there."""
    return [*sorted(f"tests.e2e.{path.stem}" for path in HERE.glob("e2e/test_*.py")), "tests.storage"]


def _run_shared(names: Sequence[str], speed: str, count: int, options: list[str]) -> bool:
    """
    Run processes side by side, each in a folder of its own; what they say appears one after the other.

    :param names: Modules and packages whose tests they share.
    :param speed: Which tests of those: ``"quick"``, ``"slow"`` or ``"any"``.
    :param options: For trial.
    :returns: whether something failed.
    """
    folders = [each.removeprefix(TEMP_OPTION) for each in options if each.startswith(TEMP_OPTION)] or ["_trial_temp"]
    claims = write_claims()
    chosen = {CLAIMS: str(claims), NAMES: ",".join(names), SPEED: speed}
    kept = [each for each in options if not each.startswith(TEMP_OPTION)]
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
    return failed


def _run_apart(names: Iterable[str], alone: str, speed: str, count: int, options: list[str]) -> bool:
    """Share all but one module among processes, and then run that one alone. :returns: whether something failed."""
    failed = _run_shared([name for name in names if name != alone], speed, count, options)
    return subprocess.call([*TRIAL, *options, alone]) != 0 or failed


def main() -> None:
    """See the module."""
    options = [each for each in sys.argv[1:] if each not in (SLOW_OPTION, END_TO_END_OPTION)]
    several = min(_processors() + 1, MAX_PROCESSES)  # one waits now and then
    if any(each.startswith("tests") for each in options):
        failed = subprocess.call([*TRIAL, *options]) != 0
    elif END_TO_END_OPTION in sys.argv:
        failed = _run_apart(end_to_end_tests(), ALONE_END_TO_END, "any", min(_processors(), MAX_PROCESSES), options)
    elif SLOW_OPTION in sys.argv:
        failed = _run_apart(unit_tests(), ALONE, "slow", several, options)
    else:
        failed = _run_shared([name for name in unit_tests() if name != ALONE], "quick", several, options)
    sys.exit(failed)


if __name__ == "__main__":
    main()
