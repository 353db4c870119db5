"""``rapidrtmp serve``: the server in the foreground, with the options of ``twistd rapidrtmp`` and no pid file."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.python import usage
from twisted.scripts.twistd import ServerOptions, runApp  # type: ignore[attr-defined]

__all__ = ["serve"]


class _ForegroundOptions(ServerOptions):
    """
    The options of ``twistd`` with one subcommand, which is known without Twisted's plugin cache.

    So it works in an editable install too, which hides ``twisted/plugins`` from ``twistd``.
    """

    synopsis = "Usage: rapidrtmp"

    @property
    def subCommands(self) -> list[tuple[str, None, Any, str]]:
        """``serve``, which leads where ``twistd rapidrtmp`` leads."""
        maker = ServiceMaker("RapidRTMP", "rapidrtmp.tap", "Run the server in the foreground", "serve")
        self.loadedPlugins = {maker.tapname: maker}
        return [(maker.tapname, None, lambda: maker.options(), maker.description)]


def serve(arguments: Sequence[str], program: Sequence[str] = ()) -> int:
    """
    Run the server until a signal stops it; what makes a start impossible ends the process with one line.

    :param arguments: as behind ``twistd rapidrtmp``.
    :param program: options of ``twistd`` itself.
    :returns: the exit status, where no signal ended the process.
    """
    options = _ForegroundOptions()  # type: ignore[no-untyped-call]
    try:
        options.parseOptions(["--nodaemon", *program, "serve", *arguments])  # type: ignore[no-untyped-call]
    except usage.UsageError as error:
        print(f"rapidrtmp: {error}", file=sys.stderr)
        return 1
    runApp(options)
    return 0


if __name__ == "__main__":  # a worker: see `server/supervisor.py`
    raise SystemExit(serve(sys.argv[2:], sys.argv[1:2]))
