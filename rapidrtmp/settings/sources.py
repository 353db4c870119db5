"""
Finds the value of every setting and remembers where it came from.

Strongest first: the command line, the environment (today's name before an older one), the TOML file, the default. What
an environment variable says empty, it does not say.
"""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.names import BadNameError, StreamName
from rapidrtmp.settings.model import (
    AppSetting,
    AppSettings,
    HookSettings,
    Row,
    Sections,
    Setting,
    Settings,
    all_settings,
    app_settings,
    check_section,
    hook_rows,
    read_field,
    replace_field,
)
from rapidrtmp.support.text import reason_of
from rapidrtmp.support.units import render_duration_ms

__all__ = ["DEFAULT", "Loaded", "PluginSections", "load_settings"]

#: The source of what was not set.
DEFAULT = "default"
_PREFIX = "RAPIDRTMP_"
#: What Kubernetes puts into every pod beside a Service called ``rapidrtmp`` or ``rapidrtmp-…``.
_KUBERNETES_NAME = re.compile(r"RAPIDRTMP_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_KUBERNETES_URL = re.compile(r"(tcp|udp|sctp)://\S+")

#: What a build asks for, and may still stand in the environment: see ``setup.py``.
_BUILD_NAME = "RAPIDRTMP_COMPILE"

Options = Mapping[str, str | Sequence[str]]
Environment = Mapping[str, str]
Document = Mapping[str, Any]


@dataclass(frozen=True)
class PluginSections:
    """
    The sections that plugins bring.

    :ivar classes: the dataclass of each, by name.
    :ivar searched: where plugins were looked for, in words, for what is unknown.
    :raises ConfigurationError: one of them cannot be a section, or two share a name in the environment.
    """

    classes: Sections = field(default_factory=dict)
    searched: str = ""

    def __post_init__(self) -> None:
        for name, section in self.classes.items():
            check_section(name, section)
        known: dict[str, str] = {}
        for row in all_settings(self.classes):
            other = known.setdefault(row.environment_name, row.name)
            if other != row.name:
                raise ConfigurationError(f"{row.environment_name} would set both {other} and {row.name}")

    def rows(self) -> Sequence[Setting]:
        """The whole table, the server's own rows first."""
        return list(all_settings(self.classes))

    def where(self) -> str:
        """What is added to a message about a name that is unknown: a plugin might have it."""
        return f"; plugins may bring others: looked in {self.searched}" if self.searched else ""


@dataclass(frozen=True)
class Loaded:
    """
    The settings, and where each came from.

    :ivar settings: all of them.
    :ivar provenance: by name (``hls.segment``, ``apps.live.sinks``): ``default``, ``--sink``,
        ``environment HTTP_ADDR``, the file's path, or ``as server.sinks``, whose value it is.
    """

    settings: Settings
    provenance: Mapping[str, str]

    def render(self) -> str:
        """Every value as a line of TOML with its source behind it, without secrets."""
        lines: list[str] = []
        for section, rows in groupby(self.settings.rows(), key=attrgetter("section")):
            lines += self._render_table(section, self.settings.section(section), rows)
        for app, values in self.settings.apps.items():
            lines += self._render_table(f"apps.{app}", values, app_settings().values())
        for number, hook in enumerate(self.settings.hooks, 1):
            lines += ["[[hooks]]", *self._render_table(f"hooks.{number}", hook, hook_rows())[1:]]
        return "\n".join(lines[:-1])

    def _render_table(self, table: str, values: object, rows: Iterable[Row]) -> list[str]:
        lines = [f"[{table}]"]
        for row in rows:
            said = f"{row.key} = {row.kind.render_toml(read_field(values, row.field_name))}"
            lines.append(f"{said:<40}  # {self.provenance[f'{table}.{row.key}']}")
        return [*lines, ""]


class _Reading(NamedTuple):
    """What one source says of a setting: text, or several where the kind takes many."""

    texts: Sequence[str]
    source: str


def load_settings(
    options: Options,
    environment: Environment,
    toml_file: str | Path | None = None,
    plugins: PluginSections = PluginSections(),
    toml_text: str | None = None,
) -> Loaded:
    """
    Find the value of every setting.

    :param options: of the command line: those given, by name without dashes; lists where an option repeats.
    :param environment: as ``os.environ``.
    :param toml_file: the configuration file, if there is one.
    :param plugins: the sections that there are besides the server's own.
    :param toml_text: what is in the file, where that was read already; else it is read.
    :raises ConfigurationError: an unreadable file, an unknown section, key or ``RAPIDRTMP_`` name, a bad value, or
        values that do not go together.
    """
    document = _read_document(toml_file, toml_text)
    where = str(toml_file)
    rows = plugins.rows()
    _refuse_unknown_keys(document, where, rows, plugins)
    _refuse_unknown_names(environment, rows, plugins)
    values: dict[str, Any] = {}
    provenance: dict[str, str] = {}
    for row in rows:
        reading = (
            _from_options(row, options)
            or _from_environment(row, environment)
            or _from_old_names(row, environment)
            or _from_table(row, document.get(row.section, {}), row.section, where)
        )
        values[row.name] = row.default if reading is None else _value(row.name, row, reading)
        provenance[row.name] = DEFAULT if reading is None else reading.source
    apps = _load_apps(document.get("apps", {}), where, values, provenance)
    hooks = _load_hooks(document.get("hooks", []), where, provenance)
    settings = _build(
        values, apps, hooks, {name: _section(name, each, values) for name, each in plugins.classes.items()}
    )
    _check_together(settings, provenance)
    return Loaded(settings, provenance)


def _value(name: str, row: Row, reading: _Reading) -> Any:
    try:
        parsed = tuple(row.kind.parse(text) for text in reading.texts)
    except ConfigurationError as error:
        raise ConfigurationError(f"{name} ({reading.source}): {error}") from error
    if row.kind.many and row.default and not parsed:
        raise ConfigurationError(f"{name} ({reading.source}): at least one is needed")
    return parsed if row.kind.many else parsed[-1]


def _build(
    values: Mapping[str, Any],
    apps: Mapping[str, AppSettings],
    hooks: tuple[HookSettings, ...],
    of_plugins: Mapping[str, Any],
) -> Settings:
    sections: dict[str, Any] = {}
    for row in all_settings():
        section = sections.get(row.section, getattr(Settings, row.section, None))
        sections[row.section] = replace_field(section, row.field_name, values[row.name])
    return Settings(**sections, apps=apps, hooks=hooks, sections=of_plugins)


def _section(name: str, section_class: type[Any], values: Mapping[str, Any]) -> Any:
    """A plugin's section; its class may refuse values that do not go together."""
    rows = all_settings({name: section_class})
    try:
        return section_class(**{row.field_name: values[row.name] for row in rows if row.section == name})
    except Exception as error:
        raise ConfigurationError(f"[{name}]: {reason_of(error)}") from error


def _check_together(settings: Settings, provenance: Mapping[str, str]) -> None:
    pairs = (
        ("tokens.default_expiration", settings.tokens.default_expiration_s * 1000),
        ("tokens.max_expiration", settings.tokens.max_expiration_s * 1000),
        ("hls.part", settings.hls.part_ms),
        ("hls.segment", settings.hls.segment_ms),
    )
    if settings.server.api_token and provenance["server.api_token_file"] != DEFAULT:
        raise ConfigurationError(
            f"server.api_token ({provenance['server.api_token']}) and server.api_token_file "
            f"({provenance['server.api_token_file']}) are two secrets: give one of them"
        )
    for (less, less_ms), (more, more_ms) in zip(pairs[::2], pairs[1::2], strict=True):
        if less_ms > more_ms:
            raise ConfigurationError(
                f"{less} is {render_duration_ms(less_ms)} ({provenance[less]}), longer than {more}, "
                f"{render_duration_ms(more_ms)} ({provenance[more]})"
            )


# ── the four sources ─────────────────────────────────────────────────────────────────────────────────────────────────


def _from_options(row: Setting, options: Options) -> _Reading | None:
    given = options.get(row.option) if row.option else None
    if given is None or given == []:
        return None
    return _Reading([given] if isinstance(given, str) else given, f"--{row.option}")


def _from_environment(row: Setting, environment: Environment) -> _Reading | None:
    text = environment.get(row.environment_name, "")
    if not text:
        return None
    return _Reading(text.split() if row.kind.many else [text], f"environment {row.environment_name}")


def _from_old_names(row: Setting, environment: Environment) -> _Reading | None:
    texts = [environment.get(name, "") for name in row.old_names]
    if not any(texts):
        return None
    source = f"environment {', '.join(name for name in row.old_names if environment.get(name))}"
    try:
        text = row.from_old(*texts)
    except ConfigurationError as error:
        raise ConfigurationError(f"{row.name} ({source}): {error}") from error
    return _Reading([text], source) if text else None


def _from_table(row: Row, table: Document, table_name: str, where: str) -> _Reading | None:
    if row.key not in table:
        return None
    given = table[row.key]
    if row.kind.table and not row.kind.many and isinstance(given, dict):
        return _Reading([json.dumps(given)], where)
    items = given if row.kind.many and isinstance(given, list) else [given]
    if row.kind.table and row.kind.many:
        return _Reading([json.dumps(item) for item in items], where)
    if not all(isinstance(item, str | int | float) for item in items):
        wanted = "text or a list of texts" if row.kind.many else "one value"
        raise ConfigurationError(f"{table_name}.{row.key} ({where}): {type(given).__name__} where {wanted} belongs")
    return _Reading([str(item).lower() if isinstance(item, bool) else str(item) for item in items], where)


def _read_document(toml_file: str | Path | None, text: str | None) -> Document:
    if toml_file is None:
        return {}
    try:
        return tomllib.loads(Path(toml_file).read_text("utf-8") if text is None else text)
    except OSError as error:
        raise ConfigurationError(f"{toml_file}: {error.strerror or error}") from error
    except ValueError as error:
        raise ConfigurationError(f"{toml_file} is not TOML: {error}") from error


# ── applications ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _load_apps(
    tables: Mapping[str, Document], where: str, values: Mapping[str, Any], provenance: dict[str, str]
) -> dict[str, AppSettings]:
    """Every application, ``live`` first; ``provenance`` is added to."""
    apps: dict[str, AppSettings] = {}
    for app in dict.fromkeys(["live", *tables]):
        table, known, facts = tables.get(app, {}), {**values}, {}
        for row in app_settings().values():
            name = f"apps.{app}.{row.key}"
            reading = _from_table(row, table, f"apps.{app}", where)
            if reading is not None:
                known[name], provenance[name] = _value(name, row, reading), reading.source
            elif not row.general:
                known[name], provenance[name] = row.default, DEFAULT
            else:
                model = f"apps.{app}.{row.beside}" if row.beside in table else _general(row, values)
                known[name], provenance[name] = known[model], f"as {model}"
            facts[row.field_name] = known[name]
        apps[app] = AppSettings(**facts)
    return apps


def _load_hooks(tables: Any, where: str, provenance: dict[str, str]) -> tuple[HookSettings, ...]:
    """Every hook, in the order of the file; ``provenance`` is added to, by ``hooks.1.url``."""
    if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
        raise ConfigurationError(f"{where}: hooks are tables: write [[hooks]] above each")
    hooks = []
    for number, table in enumerate(tables, 1):
        name, rows, facts = f"hooks.{number}", hook_rows(), {}
        _refuse_unknown_key(table, name, [row.key for row in rows], where)
        for row in rows:
            reading = _from_table(row, table, name, where)
            facts[row.field_name] = row.default if reading is None else _value(f"{name}.{row.key}", row, reading)
            provenance[f"{name}.{row.key}"] = DEFAULT if reading is None else reading.source
        try:
            hooks.append(HookSettings(**facts))
        except ConfigurationError as error:
            raise ConfigurationError(f"{where}: [[hooks]] {number}: {error}") from error
    return tuple(hooks)


def _general(row: AppSetting, values: Mapping[str, Any]) -> str:
    """The setting that holds for applications that say nothing."""
    return next((name for name in row.general if values[name]), row.general[-1])


# ── unknown names ───────────────────────────────────────────────────────────────────────────────────────────────


def _refuse_unknown_keys(document: Document, where: str, rows: Iterable[Setting], plugins: PluginSections) -> None:
    known: dict[str, list[str]] = {}
    for row in rows:
        known.setdefault(row.section, []).append(row.key)
    for section, table in document.items():
        if section == "hooks":
            continue
        if section != "apps" and section not in known:
            near = _nearest(section, [*known, "apps", "hooks"])
            raise ConfigurationError(f"{where}: there is no section [{section}]; {near}{plugins.where()}")
        if not isinstance(table, dict):
            raise ConfigurationError(f"{where}: {section} is a section: write [{section}]")
        if section != "apps":
            _refuse_unknown_key(table, section, known[section], where)
    for app, table in document.get("apps", {}).items():
        if not isinstance(table, dict):
            raise ConfigurationError(f"{where}: [apps] holds applications: write [apps.live] above {app}")
        try:
            StreamName.checked(app, "any")
        except BadNameError as error:
            raise ConfigurationError(f"{where}: [apps.{app}]: {error}") from error
        _refuse_unknown_key(table, f"apps.{app}", list(app_settings()), where)


def _refuse_unknown_key(table: Document, section: str, known: Sequence[str], where: str) -> None:
    for key in table:
        if key not in known:
            raise ConfigurationError(f"{where}: [{section}] has no key {key}; {_nearest(key, known)}")


def _refuse_unknown_names(environment: Environment, rows: Iterable[Setting], plugins: PluginSections) -> None:
    known = [row.environment_name for row in rows]
    known_here = {*known, _BUILD_NAME}
    for name, text in environment.items():
        if name.startswith(_PREFIX) and name not in known_here and not _is_kubernetes(name, text):
            near = _nearest(name, known)
            raise ConfigurationError(f"environment {name}: there is no such setting; {near}{plugins.where()}")


def _is_kubernetes(name: str, text: str) -> bool:
    return bool(_KUBERNETES_NAME.fullmatch(name)) or (name.endswith("_PORT") and bool(_KUBERNETES_URL.fullmatch(text)))


def _nearest(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
