"""
Every setting of the server: its name, type, default and meaning, and how its value is found.

The dataclasses below are the one table: a field is a TOML key of the section its class is, the environment variable
``RAPIDRTMP_SECTION_KEY``, and, where it says so, a command line option and a name that older deployments set. Fields
are named for what they hold: ``segment_ms`` is the key ``segment``, written ``2s``. Sections of plugins are such
dataclasses as well (:mod:`rapidrtmp.interfaces.settings`). An unknown name or a bad value is a
:class:`~rapidrtmp.errors.ConfigurationError` of one line: what was read, where, and what would be right.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import groupby
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from twisted.internet.endpoints import quoteStringArgument

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import AppLimits, DeclaredSetting, Outcome, PullSource, PushTarget
from rapidrtmp.net.limits import ConnectionLimits, HeadroomLimits
from rapidrtmp.rtmp.limits import SessionLimits
from rapidrtmp.settings.types import (
    ALIASES,
    BITRATE,
    BOOLEAN,
    DURATION,
    DURATION_OR_AUTO,
    ENDPOINTS,
    EVENT_TYPES,
    HOOK_URL,
    NETWORKS,
    OPTIONAL_SPEC,
    ORIGINS,
    PUBLIC_ADDRESS,
    PUBLIC_NAMES,
    PUBLIC_URL,
    PULLS,
    PUSHES,
    SECONDS,
    SECRET,
    SIZE,
    SPEC,
    SPECS,
    TEXT,
    TEXTS,
    WORDS,
    Kind,
    checked,
    number,
    one_of,
    whole,
    whole_or_auto,
)
from rapidrtmp.support.limits import Limit
from rapidrtmp.support.text import reason_of
from rapidrtmp.support.units import address_endpoint
from rapidrtmp.timeline.policy import TimelinePolicy
from rapidrtmp.web.policy import HttpLimits, TokenLimits

__all__ = [
    "AppSetting",
    "AppSettings",
    "ClusterSettings",
    "EventSettings",
    "HlsSettings",
    "HookSettings",
    "HttpSettings",
    "LimitsSettings",
    "LiveSettings",
    "Row",
    "RtmpSettings",
    "Sections",
    "ServerSettings",
    "Setting",
    "Settings",
    "StorageSettings",
    "TokenSettings",
    "all_settings",
    "app_settings",
    "check_section",
    "hook_rows",
    "read_field",
    "replace_field",
]


@dataclass(frozen=True)
class Row:
    """
    A key that a table of the TOML file may have.

    :ivar key: the name within its table.
    :ivar field_name: the field of the dataclass that the table becomes; ``NAME.NAME`` of one that is in a field of it.
    :ivar kind: how text becomes the value.
    :ivar default: the value when nothing is said anywhere.
    """

    key: str
    field_name: str
    kind: Kind
    default: Any


@dataclass(frozen=True)
class Setting(Row):
    """
    One row of the table of settings.

    :ivar section: TOML table.
    :ivar help: one line.
    :ivar option: the command line option that sets it, or ``""``.
    :ivar old_names: environment variables of older deployments that set it together.
    :ivar from_old: makes today's text of their texts (``""`` where one is not set), or ``""`` if they say nothing.
    :ivar when_changed: what a plugin says becomes of it when the settings are replaced.
    """

    section: str
    help: str
    option: str = ""
    old_names: tuple[str, ...] = ()
    from_old: Callable[..., str] = str
    when_changed: Outcome = Outcome.NEEDS_RESTART

    @property
    def name(self) -> str:
        """As it is called in messages: ``hls.segment``."""
        return f"{self.section}.{self.key}"

    @property
    def environment_name(self) -> str:
        """As the environment spells it: ``RAPIDRTMP_HLS_SEGMENT``."""
        return f"RAPIDRTMP_{self.section}_{self.key}".upper().replace("-", "_")


@dataclass(frozen=True)
class AppSetting(Row):
    """
    One key of ``[apps.NAME]``.

    :ivar beside: the key of the same table that holds for this one too, where only that is there; or ``""``.
    :ivar general: the settings that hold for applications with neither: the first that is not empty, or else the last.
        Where there are none, the default does.
    """

    beside: str
    general: tuple[str, ...]


def _setting(
    kind: Kind,
    default: str,
    help: str,
    *,
    option: str = "",
    old: tuple[str, ...] | str = (),
    from_old: Callable[..., str] = str,
) -> Any:
    """A field of a section's dataclass, and its row of the table; ``default`` is text as an operator would write it."""
    value = tuple(kind.parse(text) for text in default.split()) if kind.many else kind.parse(default)
    old = (old,) if isinstance(old, str) else old
    row = {"kind": kind, "help": help, "option": option, "old_names": old, "from_old": from_old}
    return field(default=value, repr=not kind.secret, metadata={"setting": row})


def _owned(owner: type[Any], name: str, *, old: str = "") -> Any:
    """A field of a section's dataclass that is a limit of another's; default and meaning are the owner's."""
    each = next(each for each in fields(owner) if each.name == name)
    row = {**_row_of_limit(each.metadata["limit"], each), "old_names": (old,) if old else ()}
    return field(default=each.default, metadata={"setting": row})


def _row_of_limit(limit: Limit, declared: Any) -> Mapping[str, Any]:
    """What the table of settings says of a limit."""
    row = {"help": limit.help, "key": limit.key}
    if not isinstance(limit, DeclaredSetting):
        return {**row, "kind": _kind_of_limit(limit, declared)}
    kind = _kind_of_plugin(limit, declared)
    return {**row, "kind": checked(kind, limit.check) if limit.check else kind, "when_changed": limit.when_changed}


def _kind_of_plugin(said: DeclaredSetting, declared: Any) -> Kind:
    """The kind of a plugin's setting: by its default, and for whole numbers and durations as that of a limit."""
    match declared.default:
        case bool():
            return BOOLEAN
        case float():
            return number(said.minimum)
        case str() if said.choices:
            return one_of(*said.choices)
        case str():
            return replace(TEXT, secret=said.secret, render=SECRET.render if said.secret else str)
        case tuple():
            return replace(one_of(*said.choices), many=True) if said.choices else TEXTS
        case int() | None:
            return _kind_of_limit(said, declared)
    raise ConfigurationError(f"{declared.name} has a default of {type(declared.default).__name__}")


def _kind_of_limit(limit: Limit, declared: Any) -> Kind:
    is_auto = declared.default is None
    if declared.name.endswith("_ms"):
        return DURATION_OR_AUTO if is_auto else DURATION
    if declared.name.endswith("_bps"):
        return BITRATE
    if declared.name.endswith("_s"):
        return SECONDS
    if declared.name.endswith("_bytes"):
        return SIZE
    return whole_or_auto(limit.minimum) if is_auto else whole(limit.minimum)


def _storage_from_old(kind: str, directory: str, bucket: str, prefix: str, project: str) -> str:
    """The spec that ``STORAGE_TYPE`` and its companions meant; ``local`` is theirs when no type is named."""
    if kind == "gcs":
        if not bucket:
            raise ConfigurationError("'gcs' needs GCS_BUCKET_NAME as well")
        options = (("prefix", prefix.strip("/")), ("project", project))
        named = [f":{key}={quoteStringArgument(value)}" for key, value in options if value]
        return f"gcs:{quoteStringArgument(bucket)}{''.join(named)}"
    if kind == "memory":
        return "memory:"
    if kind not in ("", "local"):
        raise ConfigurationError(f"{kind!r} is not local, gcs or memory")
    return f"local:{quoteStringArgument(directory or 'data/streams')}" if kind or directory else ""


@dataclass(frozen=True)
class ServerSettings:
    """What the server as a whole listens on, admits and tells."""

    rtmp: tuple[str, ...] = _setting(
        ENDPOINTS,
        "tcp:1935",
        "Endpoints that take RTMP; ssl: ones RTMPS, with certificates that are read again when they change",
        option="rtmp",
        old="RTMP_ADDR",
        from_old=address_endpoint,
    )
    http: tuple[str, ...] = _setting(
        ENDPOINTS,
        "tcp:8080",
        "Endpoints that serve HTTP; ssl: ones HTTPS, likewise",
        option="http",
        old="HTTP_ADDR",
        from_old=address_endpoint,
    )
    manage: tuple[str, ...] = _setting(
        ENDPOINTS, "", "Endpoints that serve the API and the metrics; without one the HTTP ones do", option="manage"
    )
    sinks: tuple[str, ...] = _setting(SPECS, "hls", "Where frames go, in every app without its own", option="sink")
    auth: tuple[str, ...] = _setting(
        SPECS, "token", "Who may publish, in every app without its own; any one that consents is enough", option="auth"
    )
    play: tuple[str, ...] = _setting(
        SPECS, "open", "Who may watch, in every app without its own; any one that consents is enough", option="play"
    )
    transcoder: str = _setting(
        OPTIONAL_SPEC,
        "",
        "What makes the rungs of ladders, in every app without its own; empty for none",
        option="transcoder",
    )
    public_names: str = _setting(
        PUBLIC_NAMES, "", "Whether streams are called otherwise than by their keys, in every app without its own"
    )
    api_token: str | None = _setting(
        SECRET, "", "Secret of the management API; other users see it in the process list", option="api-token"
    )
    api_token_file: str = _setting(
        TEXT, "data/api.key", "File with the secret of the management API; made on first start", option="api-token-file"
    )
    numbers_file: str = _setting(
        TEXT, "data/numbers", "File with a number above all that are used, for a start with an earlier clock"
    )
    workers: int | None = _setting(
        whole_or_auto(0),
        "0",
        "Processes that serve side by side, auto for one a core; 0 or 1 for one alone, without a supervisor",
        option="workers",
    )
    directory: str = _setting(
        SPEC,
        "single",
        "What says which process owns which stream; workers have a local: one if this names none",
        option="directory",
    )
    trust_own_user: bool = _setting(
        BOOLEAN, "true", "Whether the server's own user, on this machine, needs no secret for the management API"
    )
    proxy_protocol: tuple[str, ...] = _setting(
        NETWORKS, "", "Addresses or networks of proxies whose PROXY header (v1, v2) is read, on all doors"
    )
    log_format: str = _setting(one_of("text", "json"), "text", "Form of the log: text or json", option="log-format")
    log_level: str = _setting(
        one_of("debug", "info", "warn", "error", "critical"),
        "info",
        "The lowest level that is logged",
        option="log-level",
    )
    max_streams: int = _owned(AppLimits, "max_streams", old="MAX_CONCURRENT_STREAMS")
    max_viewers_per_stream: int = _owned(AppLimits, "max_viewers_per_stream", old="MAX_VIEWERS_PER_STREAM")
    public_rtmp: str = _setting(
        PUBLIC_ADDRESS,
        "",
        "HOST:PORT that publish URLs name; empty for the host the API was asked at",
        old="RTMP_INGEST_ADDR",
    )
    public_http: str = _setting(
        PUBLIC_URL, "", "URL that watch URLs begin with; empty for the host the API was asked at"
    )
    shutdown_timeout_ms: int = _setting(DURATION, "8s", "How long stopping waits for sinks and storage")
    on_stop: str = _setting(
        one_of("interrupt", "end"),
        "interrupt",
        "What a stop of the server does to streams in a persistent storage: the next start resumes them, or they end",
    )
    metrics_stream_labels: bool = _setting(BOOLEAN, "false", "Whether metrics are also given per stream")


@dataclass(frozen=True)
class StorageSettings:
    """Where objects that outlive the live window are kept."""

    spec: str = _setting(
        SPEC,
        "local:data/streams",
        "The storage, in every app without its own: memory:, local:DIRECTORY or gcs:BUCKET:prefix=PREFIX",
        option="storage",
        old=("STORAGE_TYPE", "STORAGE_DIR", "GCS_BUCKET_NAME", "GCS_BASE_DIR", "GCS_PROJECT_ID"),
        from_old=_storage_from_old,
    )
    recordings: str = _setting(
        OPTIONAL_SPEC, "", "Another storage for recordings, in every app without its own; empty for the same"
    )
    queue_bytes: int = _setting(SIZE, "256M", "What may wait for each storage; beyond it objects are lost, and counted")


@dataclass(frozen=True)
class HlsSettings:
    """What the ``hls`` sink does where its spec does not say."""

    segment_ms: int = _setting(DURATION, "2s", "Wanted length of a segment", old="HLS_SEGMENT_DURATION")
    window: int = _setting(whole(3), "10", "Segments in a live playlist", old="HLS_MAX_SEGMENTS")
    part_ms: int = _setting(DURATION, "333ms", "Wanted length of a part (low latency); 0 for none")


@dataclass(frozen=True)
class TokenSettings:
    """Publish tokens that the API hands out."""

    default_expiration_s: int = _owned(TokenLimits, "default_expiration_s", old="DEFAULT_TOKEN_EXPIRATION")
    max_expiration_s: int = _owned(TokenLimits, "max_expiration_s", old="MAX_TOKEN_EXPIRATION")
    secret_file: str = _setting(TEXT, "data/token.key", "What signs tokens; made on first use")
    names_file: str = _setting(TEXT, "data/names.key", "What hashed public names are made with; made on first use")


@dataclass(frozen=True)
class RtmpSettings:
    """Limits of one RTMP connection, and of all together."""

    connections: ConnectionLimits = field(default=ConnectionLimits())
    session: SessionLimits = field(default=SessionLimits())
    takeover_silence_ms: int = _owned(AppLimits, "takeover_silence_ms")
    app_aliases: tuple[str, ...] = _setting(
        ALIASES, "", "PATH=APP each: the application that a path in publish URLs means; else live/0 means live"
    )


@dataclass(frozen=True)
class LiveSettings:
    """How a live stream begins, pauses and ends."""

    grace_ms: int | None = _owned(AppLimits, "grace_ms")
    linger_ms: int = _owned(AppLimits, "linger_ms")
    timeline: TimelinePolicy = field(default=TimelinePolicy())
    gop_cache_bytes: int = _setting(SIZE, "32M", "Frames since the last keyframe kept for those who join")
    max_stream_bytes: int = _setting(
        SIZE,
        "512M",
        "What one stream keeps in memory; its window shortens from half on; 0 for no limit",
    )
    play_wait_ms: int = _setting(
        DURATION, "10s", "How long a player of RTMP or FLV waits for a stream that is not there"
    )
    play_lag_ms: int = _setting(DURATION, "4s", "How far such a player may be behind before it skips to a keyframe")
    play_gops: str = _setting(
        one_of("auto", "0", "1", "2"),
        "auto",
        "How many GOPs a player begins with, over RTMP as many as hold 1.2 s by default; 0 waits for a keyframe",
    )
    play_enhanced: str = _setting(
        one_of("optimistic", "declared"),
        "optimistic",
        "Whether players that do not declare what codecs they take are sent others than H.264, AAC and MP3",
    )
    slow_sink_ms: int = _setting(DURATION, "20ms", "A sink slower than this per frame for 3 s is detached; 0 for never")


@dataclass(frozen=True)
class HttpSettings:
    """Limits of the HTTP side."""

    limits: HttpLimits = field(default=HttpLimits())
    max_connections: int | None = _setting(
        whole_or_auto(1),
        "auto",
        "Connections at once; where one more comes, an idle one makes room; auto: as many as open files allow",
    )
    max_waiters_per_stream: int = _setting(whole(1), "10000", "Requests held at once for one stream")
    trusted_proxies: tuple[str, ...] = _setting(
        NETWORKS, "", "Addresses or networks whose X-Forwarded-For or Forwarded is believed"
    )
    open_metrics: bool = _setting(BOOLEAN, "false", "Whether /metrics answers every client")
    access_log: bool = _setting(BOOLEAN, "false", "Whether each request is logged, without its query")


@dataclass(frozen=True)
class EventSettings:
    """What is kept of what happened."""

    kept: int = _setting(whole(2), "10000", "Events kept for those who ask later; half of them of viewers and refusals")


@dataclass(frozen=True)
class LimitsSettings:
    """What clients may do, in every app without a limit of its own."""

    max_players_per_token: int = _owned(AppLimits, "max_players_per_token")
    max_bitrate_bps: int = _owned(AppLimits, "max_bitrate_bps")
    max_egress_bps: int = _owned(AppLimits, "max_egress_bps")
    max_connections_per_ip: int = _owned(AppLimits, "max_connections_per_ip")
    api_requests_per_minute: int = _setting(
        whole(0), "0", "Requests a minute to the management API from one address; 0 for no limit"
    )
    headroom: HeadroomLimits = field(default=HeadroomLimits())


@dataclass(frozen=True)
class HookSettings:
    """One table ``[[hooks]]``: whom events go to."""

    url: str = _setting(HOOK_URL, "", "Where events are posted to")
    exec: tuple[str, ...] = _setting(WORDS, "", "A program and its arguments, run with the event on its standard input")
    events: tuple[str, ...] = _setting(EVENT_TYPES, "", "Types of events; all where none is named")
    secret_file: str = _setting(TEXT, "", "File with the secret that signs what is posted")
    format: str = _setting(one_of("json", "nginx-rtmp", "srs"), "json", "Form of what is posted")
    timeout_ms: int = _setting(DURATION, "10s", "How long an answer, or the program, may take")
    attempts: int = _setting(whole(1), "8", "How often one event is tried")

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.exec):
            raise ConfigurationError("a hook has either url or exec")
        if self.exec and (self.secret_file or self.format != "json"):
            raise ConfigurationError("secret_file and format belong to a url, not to exec")
        if not self.timeout_ms:
            raise ConfigurationError("timeout must be more than 0")


@dataclass(frozen=True)
class ClusterSettings:
    """Between the machines of one server."""

    endpoint: str = _setting(
        TEXT, "", "Endpoint for the other machines of a cluster: ssl:, or tcp: on a private network", option="cluster"
    )
    address: str = _setting(
        TEXT, "", "URL at which the other machines reach it; empty for this machine's address", option="cluster-address"
    )
    secret_file: str = _setting(
        TEXT, "", "File with the secret that the machines know each other by", option="cluster-secret-file"
    )
    ca: str = _setting(TEXT, "", "File of the authorities that their certificates come from; empty for the system's")
    when_down: str = _setting(
        one_of("refuse", "accept"),
        "refuse",
        "Whether streams may begin while the directory does not answer, at the risk of two with one name",
    )


def hook_rows() -> Sequence[Setting]:
    """What a table ``[[hooks]]`` may hold."""
    return list(_rows("hooks", HookSettings, ""))


_SECTIONS: Mapping[str, type[Any]] = {
    "server": ServerSettings,
    "storage": StorageSettings,
    "hls": HlsSettings,
    "tokens": TokenSettings,
    "rtmp": RtmpSettings,
    "live": LiveSettings,
    "http": HttpSettings,
    "events": EventSettings,
    "limits": LimitsSettings,
    "cluster": ClusterSettings,
}


#: Sections by name, and the class of each.
Sections = Mapping[str, type[Any]]


def all_settings(plugin_sections: Sections = MappingProxyType({})) -> Iterator[Setting]:
    """The rows of the table, by section: the server's own, then those that plugins bring."""
    for section, section_class in {**_SECTIONS, **plugin_sections}.items():
        yield from _rows(section, section_class, "")


def check_section(section: str, section_class: Any) -> None:
    """
    See that a plugin's section can be one.

    :raises ConfigurationError: its name is the server's or none, or its class is not as
        :mod:`rapidrtmp.interfaces.settings` has it.
    """
    if section in (*_SECTIONS, "apps", "hooks"):
        raise ConfigurationError(f"[{section}] is a section of the server itself")
    if not re.fullmatch(r"[A-Za-z][\w-]*", section, re.ASCII):
        raise ConfigurationError(f"{section!r} cannot be the name of a section")
    if not (isinstance(section_class, type) and is_dataclass(section_class)):
        raise ConfigurationError(f"[{section}]: {section_class!r} is not a dataclass of settings")
    undeclared = [each.name for each in fields(section_class) if "limit" not in each.metadata]
    if undeclared:
        raise ConfigurationError(f"[{section}]: {' and '.join(undeclared)} must be declared by setting()")
    try:
        section_class()
        rows = list(_rows(section, section_class, ""))
    except Exception as error:
        raise ConfigurationError(f"[{section}]: {reason_of(error)}") from error
    for row in rows:
        if not re.fullmatch(r"[A-Za-z]\w*", row.key, re.ASCII):
            raise ConfigurationError(f"[{section}]: {row.key!r} cannot be the name of a key")


def _rows(section: str, declaring: type[Any], path: str) -> Iterator[Setting]:
    """The rows of a dataclass, and of those that its fields hold: limits, each with its owner's."""
    for each in fields(declaring):
        row = each.metadata.get("setting")
        if row is None and "limit" in each.metadata:
            row = _row_of_limit(each.metadata["limit"], each)
        if row is not None:
            said = {**row, "key": row.get("key") or each.name.removesuffix(row["kind"].suffix)}
            yield Setting(section=section, field_name=f"{path}{each.name}", default=each.default, **said)
        elif is_dataclass(each.default):
            yield from _rows(section, type(each.default), f"{path}{each.name}.")


def read_field(table: object, path: str) -> Any:
    """The value of a field of a section, ``path`` as in :attr:`Row.field_name`."""
    return attrgetter(path)(table)


def replace_field(table: Any, path: str, value: Any) -> Any:
    """A section with another value of one field."""
    name, _, rest = path.partition(".")
    return replace(table, **{name: replace_field(getattr(table, name), rest, value) if rest else value})


def _as(*general: str, beside: str = "") -> Any:
    """A field of :class:`AppSettings`; see :class:`AppSetting`. Its kind is that of the last setting."""
    row = next(row for row in all_settings() if row.name == general[-1])
    said = {"kind": row.kind, "beside": beside, "general": general}
    return field(default=row.default, repr=not row.kind.secret, metadata=said)


def _own(kind: Kind) -> Any:
    """A field of :class:`AppSettings` that no setting stands in for; it is empty by default."""
    return field(default=(), repr=not kind.secret, metadata={"kind": kind, "beside": "", "general": ()})


@dataclass(frozen=True)
class AppSettings:
    """
    One RTMP application, complete: what ``[apps.NAME]`` leaves out is filled in from the rest.

    :ivar sinks: specs; likewise ``auth`` and ``play``.
    :ivar transcoder: spec; empty for no ladders.
    :ivar public_names: ``""``, ``hashed``, or a table of secret keys and public names in JSON.
    :ivar grace_ms: ``None`` for three target durations.
    :ivar max_streams: of this application; 0 for no limit. The server's own limit counts besides.
    :ivar max_viewers_per_stream: 0 for no limit; likewise ``max_players_per_token``, ``max_bitrate_bps``,
        ``max_egress_bps`` and ``max_connections_per_ip``.
    :ivar storage: spec of where its live streams leave their files. One spec is one storage, whichever application
        names it.
    :ivar recordings: spec of where its recordings lie.
    :ivar push: where its streams are pushed to; ``pull``: which come from elsewhere; ``origin``: URLs of the
        application on the servers where streams are asked for that are not here.
    """

    sinks: tuple[str, ...] = _as("server.sinks")
    auth: tuple[str, ...] = _as("server.auth")
    play: tuple[str, ...] = _as("server.play")
    transcoder: str = _as("server.transcoder")
    public_names: str = _as("server.public_names")
    grace_ms: int | None = _as("live.grace")
    max_streams: int = _as("server.max_streams")
    max_viewers_per_stream: int = _as("server.max_viewers_per_stream")
    max_players_per_token: int = _as("limits.max_players_per_token")
    max_bitrate_bps: int = _as("limits.max_bitrate")
    max_egress_bps: int = _as("limits.max_egress")
    max_connections_per_ip: int = _as("limits.max_connections_per_ip")
    storage: str = _as("storage.spec")
    recordings: str = _as("storage.recordings", "storage.spec", beside="storage")
    push: tuple[PushTarget, ...] = _own(PUSHES)
    pull: tuple[PullSource, ...] = _own(PULLS)
    origin: tuple[str, ...] = _own(ORIGINS)


def app_settings() -> Mapping[str, AppSetting]:
    """What ``[apps.NAME]`` may hold, by key."""
    rows = ((each.name.removesuffix(each.metadata["kind"].suffix), each) for each in fields(AppSettings))
    return {key: AppSetting(key, each.name, default=each.default, **each.metadata) for key, each in rows}


@dataclass(frozen=True)
class Settings:
    """
    All of it. ``Settings()`` is the server with nothing said.

    :ivar hooks: whom events go to.
    :ivar sections: those that plugins bring, by name.
    """

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    hls: HlsSettings = HlsSettings()
    tokens: TokenSettings = TokenSettings()
    rtmp: RtmpSettings = RtmpSettings()
    live: LiveSettings = LiveSettings()
    http: HttpSettings = HttpSettings()
    events: EventSettings = EventSettings()
    limits: LimitsSettings = LimitsSettings()
    cluster: ClusterSettings = ClusterSettings()
    hooks: tuple[HookSettings, ...] = ()
    apps: Mapping[str, AppSettings] = field(default_factory=lambda: {"live": AppSettings()}, hash=False)
    sections: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def section(self, name: str) -> Any:
        """The values of a section, the server's own or a plugin's."""
        return getattr(self, name) if name in _SECTIONS else self.sections[name]

    def rows(self) -> Iterator[Setting]:
        """The table of what these settings hold, but for applications."""
        return all_settings({name: type(section) for name, section in self.sections.items()})

    def value(self, row: Setting) -> Any:
        """The value of one of them."""
        return read_field(self.section(row.section), row.field_name)

    def keeping(self, former: Settings, rows: Iterable[Setting]) -> Settings:
        """
        These settings with the values that former ones have of some rows.

        :raises Exception: a plugin's section refuses what it would then hold.
        """
        kept = self
        for name, some in groupby(rows, key=attrgetter("section")):
            if name in _SECTIONS:
                section = self.section(name)
                for row in some:
                    section = replace_field(section, row.field_name, former.value(row))
                kept = replace(kept, **{name: section})
            else:  # at once: it may refuse what is half done
                section = replace(self.section(name), **{row.field_name: former.value(row) for row in some})
                kept = replace(kept, sections={**kept.sections, name: section})
        return kept
