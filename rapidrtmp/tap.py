"""
``twistd rapidrtmp``: the command line, and the one place where the parts meet and the reactor comes from.

Whatever makes a start impossible is one line on standard error and exit status 1.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable, MutableMapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver, Logger, LogLevel, textFileLogObserver
from twisted.python import usage

from rapidrtmp import __version__
from rapidrtmp.discovery import list_plugins, plugin_sections, search_working_folder
from rapidrtmp.errors import ConfigurationError
from rapidrtmp.server.configuration import Configuration, check_settings
from rapidrtmp.server.logs import ServerLog, server_log_observer
from rapidrtmp.server.signals import Signals
from rapidrtmp.settings.model import ServerSettings, Setting, all_settings
from rapidrtmp.settings.sources import DEFAULT, Loaded, load_settings
from rapidrtmp.support.clock import keep_monotonic
from rapidrtmp.support.text import encodable

__all__ = ["Options", "makeService"]


class Options(usage.Options):
    """
    What the command line says; once parsed, ``loaded`` holds all settings with where each came from, and
    ``configuration`` reads them again.

    ``--list-plugins`` and ``--check-config`` print and exit while parsing.
    """

    synopsis = "[options]"
    longdesc = (
        "A live media server: RTMP in, low-latency HLS out. ENDPOINT is a Twisted endpoint string (tcp:1935, "
        "ssl:1936:privateKey=key.pem:certKey=cert.pem); SPEC names a plugin and its arguments (hls:segment=2s). "
        "Every setting may also come from the environment or the file: --check-config lists them."
    )
    optFlags = [  # noqa: RUF012 - Twisted's way
        ["demo", None, "Publish a test picture and tone as live/demo (needs FFmpeg)"],
        ["list-plugins", None, "List sinks, storages and authenticators with their arguments, and exit"],
        ["check-config", None, "Check everything, print each setting and where it came from, and exit"],
    ]
    optParameters = [  # noqa: RUF012 - Twisted's way
        ["config", None, None, "TOML file with settings"],
        ["storage", None, None, "SPEC of where objects are kept (default local:data/streams)"],
        ["transcoder", None, None, "SPEC of what makes other sizes of the picture (default none)"],
        ["api-token", None, None, "Secret of the management API; other users see it in the process list"],
        ["api-token-file", None, None, "FILE with that secret; made on first start (default data/api.key)"],
        ["workers", None, None, "NUMBER of processes that serve side by side, or auto for one a core (default 0: one)"],
        ["directory", None, None, "SPEC of what says which process owns which stream (default single)"],
        ["cluster", None, None, "ENDPOINT for the other machines of a cluster"],
        ["cluster-address", None, None, "URL at which the other machines reach it"],
        ["cluster-secret-file", None, None, "FILE with the secret that the machines know each other by"],
        ["worker", None, None, "What a supervisor starts its workers with; not for use by hand"],
        ["log-format", None, None, "text or json (default text)"],
        ["log-level", None, None, "The lowest that is logged: debug, info, warn, error or critical (default info)"],
    ]
    loaded: Loaded
    configuration: Configuration

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.update(rtmp=[], http=[], manage=[], sink=[], auth=[], play=[])

    def opt_rtmp(self, endpoint: str) -> None:
        """ENDPOINT that takes RTMP; may be repeated (default tcp:1935)"""
        self["rtmp"].append(endpoint)

    def opt_http(self, endpoint: str) -> None:
        """ENDPOINT that serves HTTP; may be repeated (default tcp:8080)"""
        self["http"].append(endpoint)

    def opt_manage(self, endpoint: str) -> None:
        """ENDPOINT that serves the management API and the metrics; may be repeated (default: --http serves them)"""
        self["manage"].append(endpoint)

    def opt_sink(self, spec: str) -> None:
        """SPEC of where frames go; may be repeated (default hls)"""
        self["sink"].append(spec)

    def opt_auth(self, spec: str) -> None:
        """SPEC of who may publish; if repeated, one that consents is enough (default token)"""
        self["auth"].append(spec)

    def opt_play(self, spec: str) -> None:
        """SPEC of who may watch; if repeated, one that consents is enough (default open)"""
        self["play"].append(spec)

    def opt_version(self) -> NoReturn:
        """Print the version and exit"""
        _answer(f"RapidRTMP {__version__}")

    def parseArgs(self, *rest: str) -> None:
        """There are only options."""
        if rest:
            raise usage.UsageError(f"{rest[0]} is not an option")

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Parse, and find all settings. Exits with one line if that fails."""
        try:
            super().parseOptions(options)  # type: ignore[no-untyped-call]
        except usage.UsageError as error:
            _stop(f"{error}{self._suggestion(str(error))}")

    def postOptions(self) -> None:
        """Load the settings; do what exits."""
        try:
            _leave_no_pid_file(self.parent)
            _install_reactor()
            search_working_folder()
            if self["list-plugins"]:
                _answer(list_plugins())
            said = {name: value for name, value in self.items() if isinstance(value, str | list)}
            path = self["config"] and Path(self["config"]).absolute()
            self.configuration = Configuration(said, dict(os.environ), path, plugin_sections())
            self.loaded = load_settings(said, os.environ, self["config"], self.configuration.sections)
            if self.parent is not None:
                _tell_twist(self.parent, self.loaded)
            if self["check-config"]:
                check_settings(_reactor(), self.loaded.settings)
                _answer(self.loaded.render())
        except ConfigurationError as error:
            _stop(str(error))

    def _suggestion(self, message: str) -> str:
        """What would be right in the place of the option that an error message names."""
        named = re.search(r"--([\w-]+)", message)
        name = named[1] if named else ""
        rows = _rows_without_option()
        settings = _settings_called(name, rows)
        if settings:
            return f"; what has no option is set by {', or '.join(map(_place, settings))}"
        close = difflib.get_close_matches(name, [each.rstrip("=") for each in self.longOpt], n=1)
        if close:
            return f"; did you mean --{close[0]}?"
        key, known = name.replace("-", "_"), [row.key for row in rows]
        keys = [each for each in known if each.startswith(f"{key}_")] or difflib.get_close_matches(key, known, n=1)
        meant = _settings_called(keys[0], rows) if keys else []
        return f"; did you mean {', or '.join(map(_place, meant))}?" if meant else ""


def _rows_without_option() -> Sequence[Setting]:
    """The settings, those of plugins too, that no option of the command line sets."""
    search_working_folder()
    try:
        rows = plugin_sections().rows()
    except ConfigurationError:  # is reported when the settings are loaded
        rows = list(all_settings())
    return [row for row in rows if not row.option]


def _settings_called(option: str, rows: Sequence[Setting]) -> list[Setting]:
    """Those of the settings that are called so: by key, section and key, or an old name."""
    name = option.replace("-", "_").upper()
    return [row for row in rows if name in (row.key.upper(), f"{row.section}_{row.key}".upper(), *row.old_names)]


def _place(row: Setting) -> str:
    return f"{row.key} of [{row.section}] in the --config file or {row.environment_name} in the environment"


def makeService(options: Options) -> IService:
    """The whole server as one service, and the signals of the process in its hands. Exits with one line on an error."""
    reactor, settings = _reactor(), options.loaded.settings
    try:
        log = _open_log(options.parent, settings.server)
        reopened: list[Callable[[], None]] = []
        signals = Signals(reactor, lambda: _reopen(log, reopened))
        signals.install()
        from rapidrtmp.server.service import make_service
        from rapidrtmp.server.worker import Worker

        plugins = check_settings(reactor, settings)
        worker = Worker.parse(options["worker"]) if options["worker"] else None
        count = 1 if worker is not None else worker_count(settings.server.workers)
        if count > 1:
            supervisor = _make_supervisor(reactor, options, settings.server, count)
            signals.hang_up = supervisor.hang_up
            reopened.append(supervisor.reopen_logs)
            return supervisor if log is None else LoggedService(supervisor, log)
        service = make_service(
            reactor, settings, plugins, options.configuration, demo=bool(options["demo"]), worker=worker
        )
        signals.hang_up = service.hang_up
    except ConfigurationError as error:
        _stop(str(error))
    if options.loaded.provenance["server.api_token"] == "--api-token":
        Logger().warn("--api-token shows in the process list; --api-token-file and RAPIDRTMP_SERVER_API_TOKEN do not")
    return service if log is None else LoggedService(service, log)


def _reopen(log: ServerLog | None, others: Sequence[Callable[[], None]]) -> bool:
    """Open the log file anew, and those of workers; whether there is one."""
    for reopen in others:
        reopen()
    return log is not None and log.reopen()


def worker_count(said: int | None) -> int:
    """How many processes the settings ask for; ``None`` is one for each core."""
    if said is not None:
        return said
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _make_supervisor(reactor: Any, options: Options, server: ServerSettings, count: int) -> Any:
    from rapidrtmp.server.supervisor import SupervisorService, worker_command

    program = options.parent
    path = None if program is None or "nodaemon" not in program else program["logfile"]
    if path is None and program is not None and not program.get("nodaemon", True):
        path = "twistd.log"
    said, demo = options.configuration.options, bool(options["demo"])
    return SupervisorService(reactor, server, count, lambda number: worker_command(said, path, number, demo=demo))


def _leave_no_pid_file(program: usage.Options | None) -> None:
    """
    Have ``twistd`` neither read nor write a pid file unless its command line names one.

    What a killed server leaves behind names, after the restart of a container, the new process itself, or another one.
    """
    if program is None or "pidfile" not in program:  # twist knows none
        return
    if program["pidfile"] is program.defaults["pidfile"]:  # the same object: one that was asked for may be equal
        program["pidfile"] = ""


def _install_reactor() -> None:
    """Ours, where the platform has what it needs and no other was chosen."""
    try:
        from rapidrtmp.net.reactor import install_if_free
    except ImportError:
        return
    install_if_free()


def _reactor() -> Any:
    from twisted.internet import reactor

    keep_monotonic(reactor)  # whichever was chosen
    return reactor


def _answer(text: str) -> NoReturn:
    print(encodable(text, sys.stdout))
    raise SystemExit(0)


def _stop(message: str) -> NoReturn:
    print(f"rapidrtmp: {message}", file=sys.stderr)
    raise SystemExit(1)


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class LoggedService(MultiService):
    """
    The server under ``twistd``, which asks the application that a service is made part of for its log observer.

    :param server: the service proper.
    :param log: where its log goes.
    """

    def __init__(self, server: IService, log: ServerLog) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._log = log
        self.addService(server)  # type: ignore[no-untyped-call]

    def setServiceParent(self, parent: Any) -> None:
        """Become part of an application, and bring it the log."""
        super().setServiceParent(parent)  # type: ignore[no-untyped-call]
        parent.setComponent(ILogObserver, self._log.observer)


def _open_log(program: MutableMapping[str, Any] | None, server: ServerSettings) -> ServerLog | None:
    """
    Where the log goes by the options of ``twistd``; ``None`` where another logs: ``twist``, syslog, a chosen logger.

    :raises ConfigurationError: the log file cannot be written to.
    """
    if program is None or "nodaemon" not in program or program.get("logger") or program.get("syslog"):
        return None
    path = program["logfile"]
    if not program["nodaemon"]:
        if path == "-":
            raise ConfigurationError("a server in the background cannot log to standard output")
        path = path or "twistd.log"
    make_observer = partial(server_log_observer, log_format=server.log_format, level=server.log_level)
    return ServerLog(make_observer, None if path in (None, "", "-") else path)


def _tell_twist(program: MutableMapping[str, Any], loaded: Loaded) -> None:
    """Have ``twist`` log in our forms, at the level that is asked for."""
    if "fileLogObserverFactory" not in program:
        return
    server = loaded.settings.server
    if loaded.provenance["server.log_format"] != DEFAULT:
        program["fileLogObserverFactory"] = partial(server_log_observer, log_format=server.log_format)
    elif program["fileLogObserverFactory"] is textFileLogObserver:
        program["fileLogObserverFactory"] = partial(server_log_observer, log_format="text")
    if loaded.provenance["server.log_level"] != DEFAULT:
        program["logLevel"] = LogLevel.levelWithName(server.log_level)
