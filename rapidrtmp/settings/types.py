"""The kinds of value that settings have: how each is written, and what is said of one that is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlsplit

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.interfaces import EventType, PullSource, PushTarget
from rapidrtmp.names import DEFAULT_APP, BadNameError, StreamName
from rapidrtmp.rtmp.remote import BadAddressError, mask_key
from rapidrtmp.rtmp.remote import mask_url as mask_relay_url
from rapidrtmp.rtmp.remote import parse_address as parse_relay_address
from rapidrtmp.settings.spec import mask_spec, parse_spec
from rapidrtmp.support.secret import Secret, reveal
from rapidrtmp.support.text import reason_of
from rapidrtmp.support.units import (
    address_endpoint,
    parse_bitrate,
    parse_duration_ms,
    parse_duration_s,
    parse_size,
    render_bitrate,
    render_duration_ms,
    render_size,
)

__all__ = [
    "ALIASES",
    "BITRATE",
    "BOOLEAN",
    "DURATION",
    "DURATION_OR_AUTO",
    "ENDPOINTS",
    "EVENT_TYPES",
    "HASHED_NAMES",
    "HOOK_URL",
    "NETWORKS",
    "OPTIONAL_SPEC",
    "ORIGINS",
    "PUBLIC_ADDRESS",
    "PUBLIC_NAMES",
    "PUBLIC_URL",
    "PULLS",
    "PUSHES",
    "SECONDS",
    "SECRET",
    "SIZE",
    "SPEC",
    "SPECS",
    "TEXT",
    "TEXTS",
    "WORDS",
    "Kind",
    "checked",
    "number",
    "one_of",
    "whole",
    "whole_or_auto",
]


#: Of ``public_names``: that they are made of the keys.
HASHED_NAMES = "hashed"


@dataclass(frozen=True)
class Kind:
    """
    A type of setting.

    :ivar parse: text to value; raises ``ConfigurationError`` saying what would be right.
    :ivar render: value to the text that ``parse`` reads.
    :ivar suffix: the unit that field names of this kind end in, and keys do not.
    :ivar many: whether the value is a tuple, each item of which ``parse`` reads.
    :ivar secret: whether a value may hold a secret; then ``render`` masks it, and no ``repr`` shows it.
    :ivar table: whether it may be a table as well, which ``parse`` gets in JSON; of ``many``, whether each item is one.
    :ivar form: what may be written, in words; of ``many``, as each item.
    """

    parse: Callable[[str], Any]
    render: Callable[[Any], str] = str
    suffix: str = ""
    many: bool = False
    secret: bool = False
    table: bool = False
    form: str = "text"

    def write(self, value: Any) -> str:
        """The value as text that reads back as the same, a secret as it is; several with blanks between them."""
        if self.many:
            return " ".join(map(self.render_plain, value))
        return self.render_plain(value)

    def render_plain(self, value: Any) -> str:
        """As ``render``, without a mask: a secret is text as it was given."""
        return reveal(value or "") if self.secret else self.render(value)

    def render_toml(self, value: Any) -> str:
        """The value as TOML that reads back as the same; secrets as ``***``."""
        if self.many:
            one = self.render if self.table else lambda item: _toml_string(self.render(item))
            return f"[{', '.join(map(one, value))}]"
        text = self.render(value)
        return text if isinstance(value, bool | float) or text.isdecimal() else _toml_string(text)


def _toml_string(text: str) -> str:
    return "'" + text + "'" if "\\" in text else '"' + text.replace('"', '\\"') + '"'


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "yes", "no", "on", "off", "1", "0"):
        raise ConfigurationError(f"{text!r} is neither true nor false")
    return text.lower() in ("true", "yes", "on", "1")


def whole(minimum: int = 0) -> Kind:
    """A whole number, not below ``minimum``."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) < minimum:
            raise ConfigurationError(f"{text!r} is not a whole number, {minimum} or more")
        return int(text)

    return Kind(parse, form=f"a whole number, {minimum} or more")


def number(minimum: int = 0) -> Kind:
    """A decimal number, not below ``minimum``."""

    def parse(text: str) -> float:
        if not re.fullmatch(r"-?\d+(\.\d+)?", text, re.ASCII) or float(text) < minimum:
            raise ConfigurationError(f"{text!r} is not a number such as 0.5, {minimum} or more")
        return float(text)

    return Kind(parse, form=f"a number, {minimum} or more")


def one_of(*choices: str) -> Kind:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ConfigurationError(f"{text!r} is not {listed}")
        return text

    listed = " or ".join(filter(None, (", ".join(choices[:-1]), choices[-1])))
    return Kind(parse, form=listed)


def checked(kind: Kind, check: Callable[[Any], object]) -> Kind:
    """A kind some values of which are refused: ``check`` raises for them."""

    def parse(text: str) -> Any:
        value = kind.parse(text)
        try:
            check(value)
        except Exception as error:
            raise ConfigurationError(reason_of(error)) from error
        return value

    return replace(kind, parse=parse)


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


def _public_names(text: str) -> str:
    """A table in JSON; its keys are not quoted: they are secrets."""
    if text in ("", "true", HASHED_NAMES):
        return "" if text == "true" else text
    try:
        table = json.loads(text)
    except ValueError:
        table = None
    if not isinstance(table, dict) or not table:
        raise ConfigurationError("it is neither hashed nor a table of secret keys and public names")
    for key, name in table.items():
        try:
            StreamName.checked(DEFAULT_APP, name if isinstance(name, str) else "")
        except BadNameError as error:
            raise ConfigurationError(f"the public name {name!r}: {error}") from error
        try:
            StreamName.checked(DEFAULT_APP, key)
        except BadNameError as error:
            raise ConfigurationError(f"the key of {name}: {error}") from error
        if key in table.values():
            raise ConfigurationError(f"the key of {name} is a public name as well")
    return text


def _public_address(text: str) -> str:
    address = text.removeprefix("rtmp://").rstrip("/")
    if address and (address.startswith(":") or any(character in address for character in "/?@ ")):
        raise ConfigurationError(f"{text!r} is not HOST or HOST:PORT")
    return address


def _public_url(text: str) -> str:
    url = text.rstrip("/")
    if url and not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#@\s]*)?", url):
        raise ConfigurationError(f"{text!r} is not a URL such as https://watch.example.com")
    return url


def whole_or_auto(minimum: int) -> Kind:
    """A whole number, not below ``minimum``; ``auto`` is ``None``."""

    def parse(text: str) -> int | None:
        try:
            return None if text == "auto" else int(whole(minimum).parse(text))
        except ConfigurationError as error:
            raise ConfigurationError(f"{error}, or auto") from None

    return Kind(parse, _render_or_auto, form=f"a whole number, {minimum} or more, or auto")


def _render_or_auto(value: int | None) -> str:
    return "auto" if value is None else str(value)


def _duration_or_auto(text: str) -> int | None:
    return None if text == "auto" else parse_duration_ms(text)


def _alias(text: str) -> str:
    path, equals, app = text.rpartition("=")
    if not equals or not path.strip("/") or not app:
        raise ConfigurationError(f"{text!r} is not PATH=APP, such as live/room7=rooms")
    return text


_DURATION_FORM, _SPEC_FORM = "a duration such as 500ms, 2s, 1h30m or 7d", "a spec such as name:key=value"


def _hook_url(text: str) -> str:
    parts = urlsplit(text)
    if text and (parts.scheme not in ("http", "https") or not parts.hostname or not text.isascii() or " " in text):
        raise ConfigurationError("it is not a URL such as https://example.com/hook")  # not quoted: it may hold a secret
    return text


def _mask_url(url: str) -> str:
    """Without who logs in there, and without the query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{'***@' if '@' in parts.netloc else ''}{host}{parts.path}{'?***' if parts.query else ''}"


# ── relays ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _read_table(text: str, texts: Sequence[str], lists: Sequence[str] = ()) -> dict[str, Any]:
    """A table in JSON of texts, and of lists of texts; it is not quoted: it may hold a secret."""
    try:
        table = json.loads(text)
    except ValueError:
        table = None
    if not isinstance(table, dict):
        raise ConfigurationError(f'it is not a table such as {{{texts[0]} = "…"}}')
    for key, value in table.items():
        if key not in (*texts, *lists):
            raise ConfigurationError(f"there is no key {key}: known are {', '.join((*texts, *lists))}")
        if key in lists and isinstance(value, str):
            table[key] = [value]
        elif key in lists:
            if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
                raise ConfigurationError(f"{key} is not a list of texts")
        elif not isinstance(value, str):
            raise ConfigurationError(f"{key} is not text")
    return table


def _check_relay_url(url: str, key: str = "k") -> None:
    try:
        parse_relay_address(url, key, "k")
    except BadAddressError as error:
        raise ConfigurationError(f"url: {error}") from error


def _push_target(text: str) -> PushTarget:
    table = _read_table(text, ["url", "key", "key_file", "key_env", "streams", "rendition", "ca"])
    if sum(key in table for key in ("key", "key_file", "key_env")) > 1:
        raise ConfigurationError("key, key_file and key_env are three ways to say one thing: give one of them")
    has_other = "key_file" in table or "key_env" in table
    _check_relay_url(table.get("url", ""), "k" if has_other else table.get("key", ""))
    return PushTarget(**{**table, "key": Secret(table.get("key", ""))})


def _render_push(target: PushTarget) -> str:
    shown = {
        "url": mask_relay_url(target.url, has_key=not (target.key or target.key_file or target.key_env)),
        "key": mask_key(target.key) if target.key else "",
        **{key: getattr(target, key) for key in ("key_file", "key_env", "streams", "rendition", "ca")},
    }
    return _inline_table(shown)


def _pull_source(text: str) -> PullSource:
    table = _read_table(text, ["stream", "mode", "hold", "close_after", "ca"], ["urls"])
    mode = one_of("always", "on demand").parse(table.pop("mode", "always"))
    try:
        StreamName.checked(DEFAULT_APP, table.get("stream", ""))
    except BadNameError as error:
        raise ConfigurationError(f"stream: {error}") from error
    if not table.get("urls"):
        raise ConfigurationError("urls is missing")
    for url in table["urls"]:
        _check_relay_url(url, "")
    spans = {f"{key}_ms": parse_duration_ms(table.pop(key)) for key in ("hold", "close_after") if key in table}
    return PullSource(**{**table, **spans, "urls": tuple(table["urls"]), "on_demand": mode == "on demand"})


def _render_pull(source: PullSource) -> str:
    shown = {
        "stream": source.stream,
        "urls": [mask_relay_url(url, has_key=True) for url in source.urls],
        "mode": "on demand" if source.on_demand else "always",
        "hold": render_duration_ms(source.hold_ms),
        "close_after": render_duration_ms(source.close_after_ms),
        "ca": source.ca,
    }
    return _inline_table(shown)


def _inline_table(values: Mapping[str, Any]) -> str:
    said = [
        f"{key} = [{', '.join(map(_toml_string, value))}]"
        if isinstance(value, list)
        else f"{key} = {_toml_string(value)}"
        for key, value in values.items()
        if value
    ]
    return f"{{{', '.join(said)}}}"


def _origin(text: str) -> str:
    _check_relay_url(text, "{key}")
    return text


_EVENT_TYPE = one_of(*(each.value for each in EventType))
HOOK_URL = Kind(_hook_url, lambda url: _mask_url(url) if url else "", secret=True, form="an http or https URL")
WORDS = Kind(lambda text: text, many=True, form="a word")
EVENT_TYPES = Kind(_EVENT_TYPE.parse, many=True, form=_EVENT_TYPE.form)
ALIASES = Kind(_alias, many=True, form="PATH=APP")
TEXT = Kind(lambda text: text)
TEXTS = Kind(lambda text: text, many=True)
SECRET = Kind(lambda text: Secret(text) if text else None, lambda value: "***" if value else "", secret=True)
BOOLEAN = Kind(_boolean, lambda value: "true" if value else "false", form="true or false")
DURATION = Kind(parse_duration_ms, render_duration_ms, suffix="_ms", form=_DURATION_FORM)
DURATION_OR_AUTO = Kind(
    _duration_or_auto,
    lambda value: "auto" if value is None else render_duration_ms(value),
    suffix="_ms",
    form=f"{_DURATION_FORM}, or auto",
)
SECONDS = Kind(
    parse_duration_s,
    lambda seconds: render_duration_ms(seconds * 1000),
    suffix="_s",
    form="a duration of whole seconds",
)
SIZE = Kind(parse_size, render_size, suffix="_bytes", form="a size such as 64k, 10M or 2G")
NETWORKS = Kind(_network, many=True, form="an address, a network such as 10.0.0.0/8, or unix")
BITRATE = Kind(parse_bitrate, render_bitrate, suffix="_bps", form="bits a second such as 800k or 8M")
ENDPOINTS = Kind(_endpoint, many=True, form="a Twisted endpoint such as tcp:1935")
SPEC = Kind(_spec, mask_spec, secret=True, form=_SPEC_FORM)
SPECS = Kind(_spec, mask_spec, many=True, secret=True, form=_SPEC_FORM)
OPTIONAL_SPEC = Kind(
    lambda text: text and _spec(text), lambda text: text and mask_spec(text), secret=True, form=_SPEC_FORM
)
PUBLIC_NAMES = Kind(
    _public_names,
    lambda text: "***" if text.startswith("{") else text,
    secret=True,
    table=True,
    form="true, hashed, or a table of secret keys and public names",
)
PUSHES = Kind(_push_target, _render_push, many=True, secret=True, table=True, form="a table {url, key, streams}")
PULLS = Kind(_pull_source, _render_pull, many=True, secret=True, table=True, form="a table {stream, urls, mode}")
ORIGINS = Kind(
    _origin,
    lambda url: mask_relay_url(url, has_key=False),
    many=True,
    secret=True,
    form="a URL such as rtmp://HOST/APP",
)
PUBLIC_ADDRESS = Kind(_public_address, form="HOST or HOST:PORT")
PUBLIC_URL = Kind(_public_url, form="a URL")
