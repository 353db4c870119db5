"""
Every setting of the server: its name, type, default and meaning, and how its value is found.

The dataclasses below are the one table: a field is a TOML key of the section its class is, the environment variable
``RAPIDRTMP_SECTION_KEY``, and, where it says so, a command line option and a name that older deployments set. Fields
are named for what they hold: ``segment_ms`` is the key ``segment``, written ``2s``. An unknown name or a bad value is a
:class:`~rapidrtmp.errors.ConfigurationError` of one line: what was read, where, and what would be right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import ip_network
from typing import Any

from twisted.internet.endpoints import quoteStringArgument

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.spec import mask_spec, parse_spec
from rapidrtmp.units import (
    address_endpoint,
    parse_duration_ms,
    parse_duration_s,
    parse_size,
    render_duration_ms,
    render_size,
)

__all__ = [
    "AppSettings",
    "HlsSettings",
    "HttpSettings",
    "Kind",
    "LiveSettings",
    "RtmpSettings",
    "ServerSettings",
    "Setting",
    "Settings",
    "StorageSettings",
    "TokenSettings",
    "all_settings",
    "app_settings",
]


# ── the kinds of value ───────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Kind:
    """
    A type of setting.

    :ivar parse: text to value; raises ``ConfigurationError`` saying what would be right.
    :ivar render: value to the text that ``parse`` reads.
    :ivar suffix: the unit that field names of this kind end in, and keys do not.
    :ivar many: whether the value is a tuple, each item of which ``parse`` reads.
    """

    parse: Callable[[str], Any]
    render: Callable[[Any], str] = str
    suffix: str = ""
    many: bool = False


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        raise ConfigurationError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "yes", "on", "1")


def _whole(minimum: int = 0) -> Kind:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < minimum:
            raise ConfigurationError(f"{text!r} is not a whole number, {minimum} or more")
        return int(text)

    return Kind(parse)


def _one_of(*choices: str) -> Kind:
    def parse(text: str) -> str:
        if text not in choices:
            raise ConfigurationError(f"{text!r} is not {' or '.join(choices)}")
        return text

    return Kind(parse)


def _spec(text: str) -> str:
    parse_spec(text)
    return text


def _endpoint(text: str) -> str:
    if text.startswith(":"):
        raise ConfigurationError(f"{text!r} is not an endpoint: write {address_endpoint(text)}")
    if not parse_spec(text).arguments and not parse_spec(text).options:
        raise ConfigurationError(f"{text!r} is not an endpoint such as tcp:1935 or tcp:1935:interface=127.0.0.1")
    return text


def _network(text: str) -> str:
    if text != "unix":
        try:
            ip_network(text, strict=False)
        except ValueError as error:
            raise ConfigurationError(f"{text!r} is not an address or a network such as 10.0.0.0/8") from error
    return text


def _public_address(text: str) -> str:
    address = text.removeprefix("rtmp://").rstrip("/")
    if address and (address.startswith(":") or any(character in address for character in "/?@ ")):
        raise ConfigurationError(f"{text!r} is not HOST or HOST:PORT")
    return address


def _duration_or_auto(text: str) -> int | None:
    return None if text == "auto" else parse_duration_ms(text)


TEXT = Kind(lambda text: text)
SECRET = Kind(lambda text: text or None, lambda value: "***" if value else "")
BOOLEAN = Kind(_boolean, lambda value: "true" if value else "false")
DURATION = Kind(parse_duration_ms, render_duration_ms, suffix="_ms")
DURATION_OR_AUTO = Kind(_duration_or_auto, lambda v: "auto" if v is None else render_duration_ms(v), suffix="_ms")
SECONDS = Kind(parse_duration_s, lambda seconds: render_duration_ms(seconds * 1000), suffix="_s")
SIZE = Kind(parse_size, render_size, suffix="_bytes")
NETWORKS = Kind(_network, many=True)
ENDPOINTS = Kind(_endpoint, many=True)
SPEC = Kind(_spec, mask_spec)
SPECS = Kind(_spec, mask_spec, many=True)
OPTIONAL_SPEC = Kind(lambda text: text and _spec(text), lambda text: text and mask_spec(text))
PUBLIC_ADDRESS = Kind(_public_address)


# ── the table ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Setting:
    """
    One row of the table.

    :ivar section: TOML table; ``key``: the name within it.
    :ivar field_name: the field of the section's dataclass.
    :ivar kind: how text becomes the value.
    :ivar default: the value when nothing is said.
    :ivar help: one line.
    :ivar option: the command line option that sets it, or ``""``.
    :ivar old_names: environment variables of older deployments that set it together.
    :ivar from_old: makes today's text of their texts (``""`` where one is not set), or ``""`` if they say nothing.
    """

    section: str
    key: str
    field_name: str
    kind: Kind
    default: Any
    help: str
    option: str
    old_names: tuple[str, ...]
    from_old: Callable[..., str]

    @property
    def name(self) -> str:
        """As it is called in messages: ``hls.segment``."""
        return f"{self.section}.{self.key}"

    @property
    def environment_name(self) -> str:
        """As the environment spells it: ``RAPIDRTMP_HLS_SEGMENT``."""
        return f"RAPIDRTMP_{self.section}_{self.key}".upper()

    def render(self, value: Any) -> str:
        """The value as TOML that reads back as the same; secrets as ``***``."""
        if self.kind.many:
            return f"[{', '.join(_toml_string(self.kind.render(item)) for item in value)}]"
        text = self.kind.render(value)
        return text if isinstance(value, bool) or text.isdecimal() else _toml_string(text)


def _toml_string(text: str) -> str:
    return "'" + text + "'" if "\\" in text else '"' + text.replace('"', '\\"') + '"'


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
    shown = kind not in (SECRET, SPEC, SPECS, OPTIONAL_SPEC)
    old = (old,) if isinstance(old, str) else old
    row = {"kind": kind, "help": help, "option": option, "old_names": old, "from_old": from_old}
    return field(default=value, repr=shown, metadata={"setting": row})


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
        ENDPOINTS, "tcp:1935", "Endpoints that take RTMP", option="rtmp", old="RTMP_ADDR", from_old=address_endpoint
    )
    http: tuple[str, ...] = _setting(
        ENDPOINTS, "tcp:8080", "Endpoints that serve HTTP", option="http", old="HTTP_ADDR", from_old=address_endpoint
    )
    sinks: tuple[str, ...] = _setting(SPECS, "hls", "Where frames go, in every app without its own", option="sink")
    auth: tuple[str, ...] = _setting(
        SPECS, "token", "Who may publish, in every app without its own; any one that consents is enough", option="auth"
    )
    api_token: str | None = _setting(
        SECRET, "", "Secret of the management API; without one it answers loopback clients only", option="api-token"
    )
    log_format: str = _setting(_one_of("text", "json"), "text", "Form of the log: text or json", option="log-format")
    max_streams: int = _setting(
        _whole(), "0", "Streams live at once, all apps together; 0 for no limit", old="MAX_CONCURRENT_STREAMS"
    )
    max_viewers_per_stream: int = _setting(
        _whole(), "0", "Viewers of one stream at once; 0 for no limit", old="MAX_VIEWERS_PER_STREAM"
    )
    public_rtmp: str = _setting(
        PUBLIC_ADDRESS,
        "",
        "HOST:PORT that publish URLs name; empty for the host the API was asked at",
        old="RTMP_INGEST_ADDR",
    )
    shutdown_timeout_ms: int = _setting(DURATION, "8s", "How long stopping waits for sinks and storage")
    metrics_stream_labels: bool = _setting(BOOLEAN, "false", "Whether metrics are also told per stream")


@dataclass(frozen=True)
class StorageSettings:
    """Where objects that outlive the live window are kept."""

    spec: str = _setting(
        SPEC,
        "local:data/streams",
        "The storage: memory:, local:DIRECTORY or gcs:BUCKET:prefix=PREFIX",
        option="storage",
        old=("STORAGE_TYPE", "STORAGE_DIR", "GCS_BUCKET_NAME", "GCS_BASE_DIR", "GCS_PROJECT_ID"),
        from_old=_storage_from_old,
    )
    recordings: str = _setting(OPTIONAL_SPEC, "", "Another storage for recordings; empty for the same")
    queue_bytes: int = _setting(SIZE, "256M", "What may wait for each storage; beyond it objects are lost, and counted")


@dataclass(frozen=True)
class HlsSettings:
    """What the ``hls`` sink does where its spec does not say."""

    segment_ms: int = _setting(DURATION, "2s", "Wanted length of a segment", old="HLS_SEGMENT_DURATION")
    window: int = _setting(_whole(3), "10", "Segments in a live playlist", old="HLS_MAX_SEGMENTS")
    part_ms: int = _setting(DURATION, "333ms", "Wanted length of a part (low latency); 0 for none")


@dataclass(frozen=True)
class TokenSettings:
    """Publish tokens that the API hands out."""

    default_expiration_s: int = _setting(
        SECONDS, "1h", "How long a token is valid if its request does not say", old="DEFAULT_TOKEN_EXPIRATION"
    )
    max_expiration_s: int = _setting(SECONDS, "24h", "The longest a token may be valid", old="MAX_TOKEN_EXPIRATION")
    secret_file: str = _setting(TEXT, "data/token.key", "What signs tokens; made on first use")


@dataclass(frozen=True)
class RtmpSettings:
    """Limits of one RTMP connection, and of all together."""

    handshake_timeout_ms: int = _setting(DURATION, "10s", "From the connection to the end of the handshake")
    publish_timeout_ms: int = _setting(DURATION, "15s", "From the handshake to publish or play")
    idle_timeout_ms: int = _setting(DURATION, "30s", "Silence after which a connection is closed")
    auth_timeout_ms: int = _setting(DURATION, "10s", "How long an authenticator may take")
    takeover_silence_ms: int = _setting(
        DURATION, "1s", "Silence after which the same credential may take over a publish"
    )
    ping_interval_ms: int = _setting(DURATION, "10s", "Between ping requests to a silent peer")
    max_connections: int = _setting(_whole(1), "1000", "Connections at once")
    max_connections_per_ip: int = _setting(_whole(1), "100", "Connections at once from one address")
    max_unauthorised_connections: int = _setting(
        _whole(1), "500", "Connections at once that do not publish; where one more comes, one of them makes room"
    )
    max_refusals_per_ip: int = _setting(
        _whole(), "10", "Refused publishes a minute from one address, before more are refused unasked; 0 for no limit"
    )
    max_message_bytes: int = _setting(SIZE, "10M", "Largest media message")
    max_command_bytes: int = _setting(SIZE, "256k", "Largest command or metadata message")
    pre_auth_message_bytes: int = _setting(SIZE, "64k", "Largest message before the publisher is admitted")
    max_chunk_streams: int = _setting(_whole(8), "64", "Chunk streams of one connection")
    max_partial_bytes: int = _setting(SIZE, "16M", "Messages not yet whole, of one connection together")
    max_message_streams: int = _setting(_whole(1), "8", "Message streams of one connection at once")
    max_unpublished_commands: int = _setting(_whole(20), "100", "Commands of a connection that does not publish")
    max_unpublished_messages: int = _setting(_whole(20), "1000", "Other messages of a connection that does not publish")
    max_unreadable_messages: int = _setting(_whole(1), "100", "Messages in a row that make no sense")
    max_amf_depth: int = _setting(_whole(4), "16", "Objects within objects in one command or metadata message")
    max_amf_values: int = _setting(_whole(64), "4096", "Values in one command or metadata message")


@dataclass(frozen=True)
class LiveSettings:
    """How a live stream begins, pauses and ends."""

    grace_ms: int | None = _setting(
        DURATION_OR_AUTO, "auto", "How long a stream waits for its publisher to return; auto: three target durations"
    )
    linger_ms: int = _setting(DURATION, "60s", "How long an ended playlist stays")
    start_window_ms: int = _setting(DURATION, "2s", "How long a new stream waits for its second track")
    start_deadline_ms: int = _setting(DURATION, "5s", "When a new stream starts with the tracks it has")
    gop_cache_bytes: int = _setting(SIZE, "32M", "Frames since the last keyframe kept for those who join")


@dataclass(frozen=True)
class HttpSettings:
    """Limits of the HTTP side."""

    early_hold_ms: int = _setting(DURATION, "10s", "How long a request for a stream about to start is held")
    max_waiters_per_stream: int = _setting(_whole(1), "10000", "Requests held at once for one stream")
    max_waiters_per_client: int = _setting(
        _whole(), "256", "Requests held at once for one client address, loopback excepted; 0 for no limit"
    )
    max_body_bytes: int = _setting(SIZE, "64k", "Largest request body")
    idle_timeout_ms: int = _setting(DURATION, "60s", "Silence after which a connection is closed")
    trusted_proxies: tuple[str, ...] = _setting(NETWORKS, "", "Addresses or networks whose X-Forwarded-For is believed")
    open_metrics: bool = _setting(BOOLEAN, "false", "Whether /metrics answers everybody")
    access_log: bool = _setting(BOOLEAN, "false", "Whether each request is logged, without its query")


@dataclass(frozen=True)
class AppSettings:
    """
    One RTMP application, complete: what ``[apps.NAME]`` leaves out is filled in from the rest.

    :ivar sinks: specs; likewise ``auth``.
    :ivar grace_ms: ``None`` for three target durations.
    :ivar max_streams: of this application; 0 for no limit. The server's own limit counts besides.
    :ivar max_viewers_per_stream: 0 for no limit.
    """

    sinks: tuple[str, ...] = field(default=ServerSettings.sinks, repr=False)
    auth: tuple[str, ...] = field(default=ServerSettings.auth, repr=False)
    grace_ms: int | None = LiveSettings.grace_ms
    max_streams: int = ServerSettings.max_streams
    max_viewers_per_stream: int = ServerSettings.max_viewers_per_stream


@dataclass(frozen=True)
class Settings:
    """All of it. ``Settings()`` is the server with nothing said."""

    server: ServerSettings = ServerSettings()
    storage: StorageSettings = StorageSettings()
    hls: HlsSettings = HlsSettings()
    tokens: TokenSettings = TokenSettings()
    rtmp: RtmpSettings = RtmpSettings()
    live: LiveSettings = LiveSettings()
    http: HttpSettings = HttpSettings()
    apps: Mapping[str, AppSettings] = field(default_factory=lambda: {"live": AppSettings()}, hash=False)


_SECTIONS: Mapping[str, type[Any]] = {
    "server": ServerSettings,
    "storage": StorageSettings,
    "hls": HlsSettings,
    "tokens": TokenSettings,
    "rtmp": RtmpSettings,
    "live": LiveSettings,
    "http": HttpSettings,
}


def all_settings() -> Iterator[Setting]:
    """The rows of the table, by section."""
    for section, section_class in _SECTIONS.items():
        for each in fields(section_class):
            row = each.metadata["setting"]
            key = each.name.removesuffix(row["kind"].suffix)
            yield Setting(section=section, key=key, field_name=each.name, default=each.default, **row)


def app_settings() -> Mapping[str, Setting]:
    """What ``[apps.NAME]`` may hold, by key: each overrides, for one application, the row it leads to."""
    by_field = {(row.section, row.field_name): row for row in all_settings()}
    found = (by_field.get((section, each.name)) for each in fields(AppSettings) for section in ("server", "live"))
    return {row.key: row for row in found if row is not None}
