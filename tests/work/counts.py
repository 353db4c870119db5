"""Every scene played and counted: how much of each kind of work was done for one message, one request."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields

from tests.work.meter import MemoryMeter, StepMeter, Steps
from tests.work.scenes import HELD_RELOAD, MESSAGE, Section, Sections, play, play_watched

__all__ = ["KINDS", "Counts", "Row", "count_all", "count_memory", "count_steps", "memory_traced"]

#: A scene and a kind of work.
Row = tuple[str, str]

PYTHON_CALLS, C_CALLS, INSTRUCTIONS, SYSTEM_CALLS = "Python calls", "C calls", "instructions", "system calls"
BYTES_USED, BYTES_HELD, CYCLES = "bytes used", "bytes held", "objects in cycles"
STEP_KINDS = (PYTHON_CALLS, C_CALLS, INSTRUCTIONS, SYSTEM_CALLS)
KINDS = (*STEP_KINDS, BYTES_USED, BYTES_HELD, CYCLES)


@dataclass(frozen=True)
class Counts:
    """
    What was counted.

    :ivar rows: for one message or request of a scene.
    :ivar functions: the same by function, for the kinds that have functions.
    """

    rows: dict[Row, float]
    functions: dict[Row, Mapping[str, float]]


def count_all() -> Counts:
    """Everything, in some seconds."""
    unwatched = play(StepMeter)
    steps = count_steps(unwatched)
    reloads = _steps_of_reloads(play_watched(StepMeter)[HELD_RELOAD], unwatched[MESSAGE])
    with memory_traced():
        memory = count_memory(play(MemoryMeter), play_watched(MemoryMeter))
    return Counts({**steps.rows, **reloads.rows, **memory.rows}, {**steps.functions, **reloads.functions})


@contextmanager
def memory_traced() -> Iterator[None]:
    """Python remembers what it allocates: needed from before a server is made whose memory is to be counted."""
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def count_steps(sections: Sections) -> Counts:
    """The steps of sections whose meters have counted them."""
    counts = Counts({}, {})
    for scene, section in sections.items():
        _add(counts, scene, _steps(section), section.times)
    return counts


def _steps(section: Section) -> Steps:
    assert isinstance(section.meter, StepMeter)
    return section.meter.steps()


def _steps_of_reloads(watched: Section, unwatched: Section) -> Counts:
    """What viewers add to what the same publisher costs without them."""
    all_steps, without = _steps(watched), _steps(unwatched)
    for each in fields(Steps):
        getattr(all_steps, each.name).subtract(getattr(without, each.name))
    counts = Counts({}, {})
    _add(counts, HELD_RELOAD, all_steps, watched.times)
    return counts


def _add(counts: Counts, scene: str, steps: Steps, times: int) -> None:
    by_kind = (steps.calls, steps.c_calls, steps.instructions, steps.system_calls)
    for kind, functions in zip(STEP_KINDS, by_kind, strict=True):
        counts.rows[scene, kind] = functions.total() / times
        counts.functions[scene, kind] = {name: count / times for name, count in functions.items()}


def count_memory(unwatched: Sections, watched: Sections | None = None) -> Counts:
    """The memory of sections whose meters have counted it; what viewers add is what is more where it is watched."""
    rows: dict[Row, float] = {}
    for scene, section in {**unwatched, **(watched or {})}.items():
        meter = _memory(section)
        used = meter.used - (_memory(unwatched[MESSAGE]).used if scene == HELD_RELOAD else 0)
        for kind, counted in ((BYTES_USED, used), (BYTES_HELD, meter.held), (CYCLES, meter.cycles)):
            rows[scene, kind] = counted / section.times
    return Counts(rows, {})


def _memory(section: Section) -> MemoryMeter:
    assert isinstance(section.meter, MemoryMeter)
    return section.meter
