"""The kinds of value that settings have: how each is written, and what is said of one that is not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.settings.spec import mask_spec, parse_spec
from rapidrtmp.support.units import (
    address_endpoint,
    parse_duration_ms,
    parse_duration_s,
    parse_size,
    render_duration_ms,
    render_size,
)

__all__ = [
    "ALIASES",
    "BOOLEAN",
    "DURATION",
    "DURATION_OR_AUTO",
    "ENDPOINTS",
    "NETWORKS",
    "OPTIONAL_SPEC",
    "PUBLIC_ADDRESS",
    "PUBLIC_URL",
    "SECONDS",
    "SECRET",
    "SIZE",
    "SPEC",
    "SPECS",
    "TEXT",
    "Kind",
    "one_of",
    "whole",
    "whole_or_auto",
]


@dataclass(frozen=True)
class Kind:
    """
    A type of setting.

    :ivar parse: text to value; raises ``ConfigurationError`` saying what would be right.
    :ivar render: value to the text that ``parse`` reads.
    :ivar suffix: the unit that field names of this kind end in, and keys do not.
    :ivar many: whether the value is a tuple, each item of which ``parse`` reads.
    :ivar secret: whether a value may hold a secret; then ``render`` masks it, and no ``repr`` shows it.
    """

    parse: Callable[[str], Any]
    render: Callable[[Any], str] = str
    suffix: str = ""
    many: bool = False
    secret: bool = False

    def render_toml(self, value: Any) -> str:
        """The value as TOML that reads back as the same; secrets as ``***``."""
        if self.many:
            return f"[{', '.join(_toml_string(self.render(item)) for item in value)}]"
        text = self.render(value)
        return text if isinstance(value, bool) or text.isdecimal() else _toml_string(text)


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

    return Kind(parse)


def one_of(*choices: str) -> Kind:
    """One of some words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ConfigurationError(f"{text!r} is not {listed}")
        return text

    listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
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

    return Kind(parse, lambda value: "auto" if value is None else str(value))


def _duration_or_auto(text: str) -> int | None:
    return None if text == "auto" else parse_duration_ms(text)


def _alias(text: str) -> str:
    path, equals, app = text.rpartition("=")
    if not equals or not path.strip("/") or not app:
        raise ConfigurationError(f"{text!r} is not PATH=APP, such as live/room7=rooms")
    return text


ALIASES = Kind(_alias, many=True)
TEXT = Kind(lambda text: text)
SECRET = Kind(lambda text: text or None, lambda value: "***" if value else "", secret=True)
BOOLEAN = Kind(_boolean, lambda value: "true" if value else "false")
DURATION = Kind(parse_duration_ms, render_duration_ms, suffix="_ms")
DURATION_OR_AUTO = Kind(_duration_or_auto, lambda v: "auto" if v is None else render_duration_ms(v), suffix="_ms")
SECONDS = Kind(parse_duration_s, lambda seconds: render_duration_ms(seconds * 1000), suffix="_s")
SIZE = Kind(parse_size, render_size, suffix="_bytes")
NETWORKS = Kind(_network, many=True)
ENDPOINTS = Kind(_endpoint, many=True)
SPEC = Kind(_spec, mask_spec, secret=True)
SPECS = Kind(_spec, mask_spec, many=True, secret=True)
OPTIONAL_SPEC = Kind(lambda text: text and _spec(text), lambda text: text and mask_spec(text), secret=True)
PUBLIC_ADDRESS = Kind(_public_address)
PUBLIC_URL = Kind(_public_url)
