"""
``python -m tests``: the unit tests under trial, which is every test but ``tests.e2e``, on all processors.

    --slow    run those that are marked ``@slow`` instead, and after them ``tests.work``, alone in its process

Other arguments go to trial. If they name tests, only those run, slow or not, in one process.

Each processor has a process of its own, with every second class, say. Under trial's own ``--jobs`` a test runs inside
of a worker's reactor: a test that counts objects fails there, and one that ends its worker takes all others along.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from twisted.scripts import trial
from twisted.trial.runner import TestLoader

from tests.slow import is_slow

HERE = Path(__file__).parent
#: It counts instructions and memory, which other tests in its process would change.
ALONE = "tests.work"
#: More than this share the disk rather than the work.
MAX_PROCESSES = 4
TEMP_OPTION = "--temp-directory="


def unit_tests() -> list[str]:
    """Every test module and package here, except the end-to-end ones, as trial wants them named."""
    packages = [path.parent.name for path in HERE.glob("*/__init__.py") if path.parent.name != "e2e"]
    modules = [path.stem for path in HERE.glob("test_*.py")]
    return [f"tests.{name}" for name in sorted(packages + modules)]


def every_test(names: Iterable[str]) -> Iterator[Any]:
    """All tests in modules and packages, and in the packages in those."""
    return _flat(TestLoader().loadByNames(list(names), recurse=True))


def chosen_tests(names: Iterable[str], *, slow: bool) -> list[str]:
    """The names of the slow, or of the quick, tests in modules and packages; what cannot be loaded is quick."""
    return [test.id() for test in every_test(names) if is_slow(test) is slow]


def share_of(tests: Iterable[str], index: int, count: int) -> list[str]:
    """The tests of every ``count``-th class, from the one at ``index`` on."""
    classes: dict[str, list[str]] = {}
    for test in tests:
        classes.setdefault(test.rpartition(".")[0], []).append(test)
    return [test for name in list(classes)[index::count] for test in classes[name]]


def _flat(suite: Any) -> Iterator[Any]:
    if not hasattr(suite, "_tests"):
        yield suite
        return
    for each in suite:
        yield from _flat(each)


def _run_trial(arguments: list[str]) -> None:
    """Trial, in this process, which it ends."""
    sys.argv = ["trial", *arguments]
    trial.run()


def _run_share(share: str, options: list[str]) -> None:
    """What one of the processes does."""
    index, count = map(int, share.split("/"))
    names = chosen_tests((name for name in unit_tests() if name != ALONE), slow="--slow" in options)
    gc.freeze()  # what was imported stays: no collection need look at it again
    _run_trial([*(each for each in options if each != "--slow"), *share_of(names, index, count)])


def _run_all(options: list[str]) -> int:
    """
    Run the processes side by side, each in a folder of its own; what they say appears one after the other.

    :returns: 0 if all have succeeded.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(usable, MAX_PROCESSES)
    folders = [each.removeprefix(TEMP_OPTION) for each in options if each.startswith(TEMP_OPTION)] or ["_trial_temp"]
    command = [sys.executable, "-m", "tests", *(each for each in options if not each.startswith(TEMP_OPTION))]
    with ExitStack() as stack:
        processes = []
        for index in range(count):
            said = stack.enter_context(tempfile.TemporaryFile("w+", errors="replace")) if index else None
            own = [f"--share={index}/{count}", f"{TEMP_OPTION}{folders[-1]}-{index}"]
            processes.append((subprocess.Popen([*command, *own], stdout=said, stderr=said), said))
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
    shares = [each for each in options if each.startswith("--share=")]
    if shares:
        _run_share(shares[0].removeprefix("--share="), [each for each in options if each not in shares])
    elif any(each.startswith("tests") for each in options):
        _run_trial(options)
    failed = _run_all(options)
    if "--slow" in options:
        command = [sys.executable, "-m", "twisted.trial", *(each for each in options if each != "--slow"), ALONE]
        failed = subprocess.call(command) != 0 or failed
    sys.exit(failed)


if __name__ == "__main__":
    main()
