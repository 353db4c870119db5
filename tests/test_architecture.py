"""Which package may import which: the arrows of `docs/architecture.md` as data, and the imports that there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parent.parent / "rapidrtmp"

#: What every package may import: values and words that know nothing of the server.
BASE = frozenset({"errors", "interfaces", "media", "names", "support"})

#: From the bottom up: each package, and those that it may import besides ``BASE``. Beside the packages stand modules of
#: the same level; ``plugins`` is a table of contents, and belongs to ``discovery``.
ARROWS: Mapping[str, str] = {
    "rtmp": "",
    "codec": "rtmp",
    "timeline": "",
    "m3u8": "",
    "storage": "",
    "directory": "",
    "metrics": "",
    "http": "",
    "events": "http settings",
    "auth": "http",
    "cmaf": "codec",
    "decoding": "cmaf codec",
    "archive": "cmaf http m3u8",
    "live": "cmaf codec rtmp timeline storage",
    "hls": "archive cmaf http m3u8",
    "playback": "auth http live",
    "play": "cmaf codec live",
    "net": "auth live metrics play playback rtmp codec timeline",
    "cluster": "auth live",
    "web": "auth codec http live metrics net play playback storage timeline",
    "settings": "net rtmp timeline web",
    "discovery": "settings",
    "relay": "cmaf codec http rtmp",
    "recording": "archive cmaf codec discovery http m3u8 storage",
    "transcode": "cmaf codec",
    "app": "auth discovery live metrics settings storage transcode",
    "server": "app auth cluster directory events http live metrics net play playback settings storage web",
    "management_client": "settings",
    "check": "cmaf m3u8",
    "testing": "cmaf codec live m3u8 storage timeline",
    "tap": "discovery net server settings",
    "cli": "auth check cmaf discovery management_client server settings",
    "__main__": "cli",
}

#: Within ``BASE``: what each of them may import of the others.
BASE_ARROWS: Mapping[str, str] = {
    "errors": "",
    "media": "support",
    "names": "errors",
    "support": "errors",
    "interfaces": "errors media names support",
}

_ROOMS = {"plugins": "discovery"}


def _room(module: str) -> str:
    """The package of a module, or the module itself where it stands beside the packages; ``""`` for the root."""
    name = module.split(".")[1] if "." in module else ""
    return _ROOMS.get(name, name)


@cache
def _imports(path: Path) -> tuple[str, ...]:
    """The modules of ours that a file imports, wherever in it."""
    return tuple(_imports_in(ast.parse(path.read_text("utf-8"))))


def _imports_in(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "rapidrtmp":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "rapidrtmp")


@cache
def _files() -> tuple[tuple[str, Path], ...]:
    """Every file of ours and the room that it is in."""
    return tuple(
        (_room(".".join(("rapidrtmp", *path.relative_to(ROOT).with_suffix("").parts))), path)
        for path in sorted(ROOT.rglob("*.py"))
    )


class ArrowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.allowed = {name: BASE | set(others.split()) for name, others in ARROWS.items()}
        self.allowed |= {name: set(others.split()) for name, others in BASE_ARROWS.items()}
        self.allowed["__init__"] = set()

    def test_imports_follow_arrows(self) -> None:
        """No package imports another one that its row does not name."""
        rooms = {room for room, _ in _files()}
        wrong = [
            f"{path.relative_to(ROOT.parent)} imports {module}"
            for room, path in _files()
            for module in _imports(path)
            if (other := _room(module)) in rooms and other != room and other not in self.allowed[room]
        ]
        self.assertEqual([], wrong)

    def test_arrows_are_used(self) -> None:
        """The rows name every package, and no arrow that nothing follows."""
        used: dict[str, set[str]] = {room: set() for room, _ in _files()}
        for room, path in _files():
            used[room] |= {_room(module) for module in _imports(path)}
        self.assertEqual(used.keys(), self.allowed.keys())
        unused = {name: set(others.split()) - used[name] for name, others in ARROWS.items()}
        self.assertEqual({}, {name: others for name, others in unused.items() if others})

    def test_no_cycles_among_packages(self) -> None:
        """No package imports one that imports it, by whatever way round."""
        TopologicalSorter(self.allowed).prepare()
