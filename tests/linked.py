"""
Make a checkout out of links, in which ``rapidrtmp`` is the package that is installed: a compiled one, say.

    python -I tests/linked.py CHECKOUT FOLDER

``-I``, because packages that lie beside this file have names of the standard library.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rapidrtmp

#: What is not the checkout's: the working folders of tools.
_LEFT_OUT = {"rapidrtmp", "build", "dist"}


def link(checkout: Path, folder: Path) -> None:
    """Fill ``folder`` with links to what ``checkout`` holds, and to the package."""
    wanted = {path.name: path for path in checkout.iterdir() if path.name not in _LEFT_OUT}
    wanted = {name: path for name, path in wanted.items() if not name.startswith((".", "_")) or name == ".ci"}
    for name, path in {**wanted, "rapidrtmp": Path(rapidrtmp.__file__).parent}.items():
        here = folder / name
        here.unlink(missing_ok=True)
        here.symlink_to(path)


if __name__ == "__main__":
    link(Path(sys.argv[1]), Path(sys.argv[2]))
