"""The ``rapidrtmp`` command: the server in the foreground (``serve``), and tools beside it."""

from __future__ import annotations

import argparse
import io
import json
import mmap
import os
import sys
from collections.abc import Mapping, Sequence
from getpass import getpass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from rapidrtmp import __version__
from rapidrtmp.errors import ConfigurationError, RapidRTMPError
from rapidrtmp.server.signals import prepare_signals

if TYPE_CHECKING:
    from rapidrtmp.settings.sources import PluginSections

__all__ = ["main"]

#: What a person needs of a publish grant, and what it is called there.
_GRANT = {
    "Publish URL": "publishUrl",
    "OBS, Server": "server",
    "OBS, Stream Key": "key",
    "Watch": "watchUrl",
    "Good until": "expiresAt",
}
#: Likewise of one to watch.
_PLAY_GRANT = {
    "Watch": "watchUrl",
    "Playlist": "playlistUrl",
    "RTMP": "rtmpUrl",
    "FLV": "flvUrl",
    "Good until": "expiresAt",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run the tool that ``arguments`` (``sys.argv`` if left out) name.

    :returns: the exit status; 1 with one line on standard error if the tool failed. That of ``check`` is 0 for a clean
        stream, 1 for one with errors, 2 if it could not be checked.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    if isinstance(sys.stdout, io.TextIOWrapper):  # what its encoding lacks is written in escapes
        sys.stdout.reconfigure(errors="backslashreplace")
    if arguments[:1] == ["serve"]:  # has the options of twistd's plugin, and parses them as that does
        prepare_signals()
        from rapidrtmp.server.foreground import serve

        return serve(arguments[1:])
    parser = argparse.ArgumentParser(prog="rapidrtmp", description="RapidRTMP, a live media server, and its tools")
    parser.add_argument("--version", action="version", version=f"RapidRTMP {__version__}")
    tools = parser.add_subparsers(title="tools", required=True, metavar="TOOL")
    tools.add_parser("serve", help="run the server in the foreground; the options are those of: twistd rapidrtmp")
    inspect = tools.add_parser("inspect", help="show the boxes of an MP4 file, init segment, segment or part")
    inspect.add_argument("file", type=Path)
    inspect.set_defaults(run=_inspect)
    check = tools.add_parser("check", help="play an HLS stream of any server and tell what players would choke on")
    check.add_argument("url", help="of a media or multivariant playlist")
    check.add_argument("--seconds", type=float, default=20, help="how long to watch a live stream (20)")
    check.add_argument("--json", action="store_true", help="report in JSON")
    check.set_defaults(run=_check)
    _add_token(
        tools.add_parser("token", help="ask a server for all that is needed to publish a stream, or to watch it")
    )
    _add_config(tools.add_parser("config", help="have a running server read its configuration again, or compare one"))
    password = tools.add_parser("password", help="make a line of the file of --auth http-users")
    password.add_argument("name", metavar="NAME")
    password.set_defaults(run=_password)
    tools.add_parser("settings", help="show every setting, its names and its default").set_defaults(run=_settings)
    if not tools.choices.keys() & set(arguments[:1]):
        _add_contributed(tools)
    chosen = parser.parse_args(arguments)
    try:
        status: int = chosen.run(chosen)
    except (RapidRTMPError, OSError) as error:
        print(f"rapidrtmp: {error}", file=sys.stderr)
        return 2 if chosen.run is _check else 1
    return status


def _add_contributed(tools: Any) -> None:
    """Add the commands of plugins, which are looked for only where none of ours is meant."""
    from rapidrtmp.discovery import contributed_commands, search_working_folder

    search_working_folder()
    for command in contributed_commands():
        parser = tools.add_parser(command.name, help=command.help)
        command.add_arguments(parser)
        parser.set_defaults(run=command.run)


def _inspect(chosen: argparse.Namespace) -> int:
    from rapidrtmp.cmaf.describe import describe

    with open(chosen.file, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            print(describe(b""))
            return 0
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            print(describe(data))
    return 0


def _check(chosen: argparse.Namespace) -> int:
    from rapidrtmp.check.command import run_check

    report = run_check(chosen.url, chosen.seconds)
    print(report.render_json() if chosen.json else report.render())
    return report.exit_status


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("stream", metavar="KEY", help="stream key, or APP/KEY")
    parser.add_argument("--play", action="store_true", help="a token to watch with, instead of one to publish with")
    parser.add_argument("--expires", metavar="TIME", help="how long the token is good: 2h, 30m (the server's default)")
    parser.add_argument("--streams", metavar="PATTERN", help="a pattern of streams, camera-*, instead of the one")
    parser.add_argument("--network", metavar="NETWORK", help="the only addresses that it is for: 10.0.0.0/8")
    parser.add_argument("--single-use", metavar="TIME", help="for one session, which can be resumed within TIME")
    parser.add_argument("--max-players", metavar="N", type=int, help="with --play: how many may use it at one time")
    parser.add_argument("--revoke", action="store_true", help="revoke all tokens for the stream issued up to now")
    _add_server(parser)
    parser.set_defaults(run=_token)


def _add_server(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which server is meant."""
    parser.add_argument("--server", metavar="URL", help="where the server answers (where the settings put it)")
    parser.add_argument("--config", metavar="FILE", help="the TOML file that the server was started with")
    parser.add_argument("--api-token-file", metavar="FILE", help="the management secret (data/api.key)")
    parser.add_argument("--json", action="store_true", help="print the server's answer as it is")


def _token(chosen: argparse.Namespace) -> int:
    from rapidrtmp.management_client import ManagementError

    if chosen.revoke:
        path, wanted = "/api/v1/tokens/revoke", {"Revoked": "revoked"}
    elif chosen.play:
        path, wanted = "/api/v1/play", _PLAY_GRANT
    else:
        path, wanted = "/api/v1/publish", _GRANT
    answer = _ask(chosen, path, _asked_of_token(chosen), chosen.config)
    if not answer.keys() >= set(wanted.values()):
        raise ManagementError("what answers is no RapidRTMP server of this version")
    if chosen.json:
        print(json.dumps(answer))
        return 0
    for title, name in wanted.items():
        print(f"{title:<17}{answer[name]}")
    shown = answer.get("server") or answer.get("watchUrl", "")
    if urlsplit(shown).hostname == "localhost":
        setting = "server.public_http" if chosen.play else "server.public_rtmp"
        print(f"From another machine, write this one's name for localhost; {setting} sets it.", file=sys.stderr)
    return 0


def _password(chosen: argparse.Namespace) -> int:
    """Ask for a password, or read it from standard input where that is no terminal."""
    try:
        from rapidrtmp.auth.http_users import hash_password
    except ImportError as error:
        raise ConfigurationError("pip install 'rapidrtmp[users]' brings what this needs") from error
    if ":" in chosen.name or not chosen.name:
        raise ConfigurationError("a name has no colon")
    password = getpass("Password: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
    if not password:
        raise ConfigurationError("no password was given")
    print(f"{chosen.name}:{hash_password(password)}")
    return 0


def _asked_of_token(chosen: argparse.Namespace) -> dict[str, Any]:
    app, _, key = chosen.stream.rpartition("/")
    terms = {
        "expiresIn": chosen.expires,
        "streams": chosen.streams,
        "network": chosen.network,
        "singleUse": chosen.single_use,
        "maxPlayers": chosen.max_players,
    }
    asked = {"streamKey": key, "app": app, **({} if chosen.revoke else terms)}
    return {name: value for name, value in asked.items() if value is not None and value != ""}


def _ask(chosen: argparse.Namespace, path: str, value: Mapping[str, Any], config: str | None) -> dict[str, Any]:
    """
    Ask the server that is meant.

    :param config: the file whose settings lead to it, where no URL is given.
    """
    from rapidrtmp.management_client import ask, check_url, find_targets
    from rapidrtmp.settings.sources import load_settings

    options = {"api-token-file": chosen.api_token_file} if chosen.api_token_file else {}
    loaded = load_settings(options, os.environ, config, _plugin_sections())
    folders = [Path.cwd(), *([Path(config).resolve().parent] if config else [])]
    targets = [check_url(chosen.server)] if chosen.server else find_targets(loaded)
    return ask(targets, loaded, folders, path, value)


#: What becomes of a key of the configuration, as the answer and as people call it.
_OUTCOMES = {"applied": "applied", "forNewStreams": "for new streams", "needsRestart": "needs a restart"}


def _add_config(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(required=True, metavar="ACTION")
    diff = actions.add_parser("diff", help="say what would become of each key if the server read this file")
    diff.add_argument("file", metavar="FILE", help="a TOML file; it leads to the server, too, unless --config does")
    diff.set_defaults(run=_diff)
    reload = actions.add_parser("reload", help="have the server read its file again, as SIGHUP does")
    reload.set_defaults(run=_reload)
    for action in (diff, reload):
        _add_server(action)


def _diff(chosen: argparse.Namespace) -> int:
    file = Path(chosen.file)
    try:
        asked = {"toml": file.read_text("utf-8"), "file": str(file)}
    except ValueError as error:
        raise ConfigurationError(f"{file} is not TOML: {error}") from error
    leading = chosen.config if chosen.config or chosen.server else chosen.file
    return _print_outcomes(chosen, _ask(chosen, "/api/v1/config/diff", asked, leading))


def _reload(chosen: argparse.Namespace) -> int:
    return _print_outcomes(chosen, _ask(chosen, "/api/v1/reload", {}, chosen.config))


def _print_outcomes(chosen: argparse.Namespace, answer: Mapping[str, Any]) -> int:
    refused = [each for each in answer.get("certificates", ()) if "error" in each]
    if chosen.json:
        print(json.dumps(answer))
        return 1 if refused else 0
    lines = [f"{words}: {', '.join(answer[name])}" for name, words in _OUTCOMES.items() if answer.get(name)]
    lines += [
        f"{each['door']} at port {each['port']}: new certificate, valid until {each['expiresAt']}"
        for each in answer.get("certificates", ())
        if each["changed"]
    ]
    if lines or not refused:
        print("\n".join(lines) or "nothing differs from what is in force")
    for each in refused:
        print(
            f"rapidrtmp: {each['door']} at port {each['port']}: the old certificate stays: {each['error']}",
            file=sys.stderr,
        )
    return 1 if refused else 0


def _plugin_sections() -> PluginSections:
    """The sections of the settings that plugins bring, as a server that starts here finds them."""
    from rapidrtmp.discovery import plugin_sections, search_working_folder

    search_working_folder()
    return plugin_sections()


def _settings(chosen: argparse.Namespace) -> int:  # noqa: ARG001 - called as every tool is
    from rapidrtmp.settings.model import hook_rows

    lines: list[str] = []
    section = ""
    for row in _plugin_sections().rows():
        if row.section != section:
            section = row.section
            lines += ["", f"[{section}]"]
        option = [f"--{row.option}"] if row.option else []
        several = "a list; each " if row.kind.many else ""
        lines.append(f"{f'{row.key} = {row.kind.render_toml(row.default)}':<40}  # {several}{row.kind.form}")
        lines.append(f"    {row.help}.")
        lines.append(f"    {', '.join([*option, row.environment_name, *row.old_names])}")
    lines += ["", "[[hooks]]", "    One table for each, in the configuration file alone."]
    for row in hook_rows():
        several = "a list; each " if row.kind.many else ""
        lines.append(f"{f'{row.key} = {row.kind.render_toml(row.default)}':<40}  # {several}{row.kind.form}")
        lines.append(f"    {row.help}.")
    print("\n".join(lines[1:]))
    return 0
