"""
The pages that are made of the code when the documentation is built: settings, HTTP API, metrics,
alerts and plugins.

A page says where by a line such as ``<!-- reference: settings -->``; as a Sphinx extension this module puts Markdown
there. ``tests/test_documentation.py`` holds that nothing is missing.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from twisted.internet.testing import MemoryReactorClock

sys.path.insert(0, str(Path(__file__).parent.parent))

from rapidrtmp.app.plugins import choose_plugins
from rapidrtmp.discovery import list_plugins, make_sink_factory, plugin_sections
from rapidrtmp.http.openapi_parts import REASONS
from rapidrtmp.names import StreamName
from rapidrtmp.server.scrape import node_metrics
from rapidrtmp.server.service import RapidRtmpService, make_service
from rapidrtmp.settings.model import AppSettings, ServerSettings, Settings, app_settings, hook_rows
from rapidrtmp.testing.frames import make_video_track, video_frames
from rapidrtmp.testing.sinks import feed, make_sink_context, packaged
from rapidrtmp.testing.transcoders import make_transcoder_context
from rapidrtmp.transcode.ffmpeg import FfmpegTranscoder, Tool
from rapidrtmp.web.openapi import description

DOCS = Path(__file__).parent
_PLACE = re.compile(r"^<!-- reference: (\w+) -->$", re.MULTILINE)
_ADDRESSES = ("tcp:0:interface=127.0.0.1",)


@cache
def server() -> RapidRtmpService:
    """A server that is made and never started, with every sink of ours, and every metric that can be chosen."""
    settings = Settings(
        server=ServerSettings(rtmp=_ADDRESSES, http=_ADDRESSES, metrics_stream_labels=True),
        apps={
            "live": AppSettings(
                sinks=("hls", "record", "thumbnail"), auth=("open",), storage="memory:", recordings="memory:"
            )
        },
    )
    with redirect_stderr(io.StringIO()):  # recording into memory is warned of
        service = make_service(_Reactor(), settings, choose_plugins(settings))
        service.privilegedStartService()  # makes the doors, and what counts there
    service.applications["live"].make_stream(StreamName("live", "show"))
    sink = packaged(make_sink_factory("hls").create(make_sink_context(metrics=service.metrics.sink("hls"))))
    video = make_video_track()
    sink.tracks_changed((video,))  # renditions have metrics of their own
    feed(sink, video_frames(video, 3.0))
    FfmpegTranscoder(
        make_transcoder_context(metrics=service.metrics.sink("transcoder")), (), Tool("", "veryfast", "libx264")
    )
    one_of_several = SimpleNamespace(followed=0, moves=0, refused=0)  # as a worker among others has it
    service.metrics.collect_from(lambda: node_metrics(one_of_several))  # type: ignore[arg-type]
    return service


class _Reactor(MemoryReactorClock):
    """Opens no port and starts no process."""

    def spawnProcess(self, *_: object) -> None:
        raise NotImplementedError


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def settings_reference() -> str:
    """Every setting: its names, its default and what it means."""
    sections: dict[str, list[str]] = {}
    for row in plugin_sections().rows():
        names = [f"`{row.environment_name}`", *(f"`{name}`" for name in row.old_names)]
        option = [f"`--{row.option}`"] if row.option else []
        sections.setdefault(row.section, []).append(_setting(row, [*option, *names]))
    text = [f"## `[{name}]`\n\n{_TABLE_OF_SETTINGS}{''.join(rows)}" for name, rows in sections.items()]
    apps = "".join(_app_setting(row) for row in app_settings().values())
    text.append(f"## `[apps.NAME]`\n\n{_LEAD_OF_APPS}| key | where it is not given | |\n|---|---|---|\n{apps}")
    hooks = "".join(_setting(row, []) for row in hook_rows())
    text.append(
        f"## `[[hooks]]`\n\nOne table for each hook, in the configuration file alone.\n\n{_TABLE_OF_SETTINGS}{hooks}"
    )
    return "\n".join(text)


_TABLE_OF_SETTINGS = "| key, also called | default | meaning |\n|---|---|---|\n"


_LEAD_OF_APPS = (
    "One table for each RTMP application, in the configuration file alone: what it has of its own. "
    "`live` is there by default.\n\n"
)


def _app_setting(row: Any) -> str:
    general = " or ".join(f"`{name}`" for name in [*([row.beside] if row.beside else []), *row.general])
    return f"| **`{row.key}`** | {general} | *{_cell(_plain(_written(row)))}* |\n"


def _written(row: Any) -> str:
    """What may be written as its value, in words."""
    return f"{'a list; each ' if row.kind.many else ''}{row.kind.form}"


def _setting(row: Any, names: Sequence[str]) -> str:
    also = "".join(f"<br>{name}" for name in names)
    default = _cell(row.kind.render_toml(row.default))
    return f"| **`{row.key}`**{also} | `{default}` | {_cell(_plain(row.help))}.<br>*{_cell(_plain(_written(row)))}* |\n"


# ── HTTP API ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def api_reference() -> str:
    """Every route of the server and of our plugins, as ``/api/v1/openapi.json`` describes it."""
    document = description(contributions=server()._contributions.current)
    operations = [_operation(path, method, each) for path, method, each in _operations(document)]
    schemas = [_schema(name, each) for name, each in sorted(document["components"]["schemas"].items())]
    errors = [_row(str(status), reason) for status, reason in REASONS.items()]
    return "\n".join(
        [
            "## Routes\n",
            *operations,
            "## Errors\n",
            f"A refusal is an {_ERROR} with one of these:\n\n| status | |\n|---|---|",
            *errors,
            "\n## Values\n",
            *schemas,
        ]
    )


_ERROR = "[Error](#error)"


def _operations(document: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    """Those that manage first, then the others; in the order of their paths."""
    found = [(path, method, each) for path, methods in document["paths"].items() for method, each in methods.items()]
    return iter(sorted(found, key=lambda each: (not each[0].startswith("/api/"), each[0], each[1])))


def _operation(path: str, method: str, operation: Mapping[str, Any]) -> str:
    lines = [f"### `{method.upper()} {path}`\n", f"{_plain(operation['summary'])}."]
    if "security" in operation:
        lines[-1] += " For the operator ([The management API](operating.md#the-management-api))."
    if "description" in operation:
        lines += ["", _plain(operation["description"])]
    parameters = [each for each in operation.get("parameters", ()) if each["in"] != "path"]
    if parameters:
        lines += ["", "| asked | | |", "|---|---|---|"]
        lines += [_row(f"`{each['name']}`", _form(each["schema"]), each.get("description", "")) for each in parameters]
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        lines += ["", f"Body, `{kind}`: {_form(body['schema'])}"]
    lines += ["", "| status | answer | |", "|---|---|---|"]
    errors = []
    for status, answer in operation["responses"].items():
        forms = [_form(each["schema"]) if "schema" in each else f"`{kind}`" for kind, each in _contents(answer)]
        if forms == [_ERROR]:
            errors.append(status)
        else:
            lines.append(_row(status, ", ".join(dict.fromkeys(forms)), answer["description"]))
    if errors:
        lines += ["", f"[Errors](#errors): {', '.join(errors)}"]
    return "\n".join([*lines, ""])


def _contents(answer: Mapping[str, Any]) -> Iterable[tuple[str, Any]]:
    """What an answer may be; of media, the type alone is worth showing."""
    for kind, each in answer.get("content", {}).items():
        yield kind, each if kind == "application/json" else {}


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    lines = [f"### {name}\n"]
    if "description" in schema:
        lines += [_plain(schema["description"]), ""]
    properties = schema.get("properties")
    if not properties:
        return "\n".join([*lines, _form(schema), ""])
    lines += ["| field | | |", "|---|---|---|"]
    optional = set(properties) - set(schema.get("required", ()))
    for field, each in properties.items():
        missing = " (may be missing)" if field in optional else ""
        lines.append(_row(f"`{field}`", _form(each) + missing, each.get("description", "")))
    return "\n".join([*lines, ""])


def _form(schema: Mapping[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(map(_form, schema[several]))
    if "enum" in schema:
        return ", ".join(f"`{each}`" for each in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = schema.get("type", "any value")
    if kind == "array":
        return f"list of {_form(schema.get('items', {}))}"
    names = " or ".join(kind) if isinstance(kind, list) else str(kind)
    bounds = [f"{words} {schema[key]}" for key, words in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([names, *([f"({schema['format']})"] if "format" in schema else []), *bounds])


# ── metrics ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def metrics() -> Sequence[tuple[str, str, str]]:
    """Name with labels, type and meaning of every metric of ours; a counter's name as it is shown, with ``_total``."""
    registry = server().metrics.registry
    found = []
    for family in registry.collect():
        shown = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        if shown.startswith("rapidrtmp_"):
            collector = registry._names_to_collectors.get(shown)
            labels = getattr(family, "_labelnames", None) or getattr(collector, "_labelnames", ())
            found.append((f"{shown}{{{','.join(labels)}}}" if labels else shown, family.type, family.documentation))
    return sorted(found)


def metric_names() -> frozenset[str]:
    """Every name that a query may have, the series of histograms among them."""
    names = {name.partition("{")[0]: kind for name, kind, _ in metrics()}
    series = {f"{name}{end}" for name, kind in names.items() if kind == "histogram" for end in _SERIES}
    return frozenset(names) | series


_SERIES = ("_bucket", "_sum", "_count")


def metrics_reference() -> str:
    """A table of them."""
    rows = [_row(f"`{name}`", kind, f"{_plain(meaning)}.") for name, kind, meaning in metrics()]
    return "\n".join(["| metric | type | meaning |", "|---|---|---|", *rows, ""])


def alerts_reference() -> str:
    """A table of the alerts."""
    import yaml

    rules = yaml.safe_load((DOCS.parent / "deploy" / "prometheus" / "rules.yml").read_text())["groups"][0]["rules"]
    rows = [
        _row(
            f"`{rule['alert']}`",
            f"`{rule['expr']}`, {rule['for']}",
            f"{_plain(rule['annotations']['summary'])}. {_plain(rule['annotations']['description'])}",
        )
        for rule in rules
    ]
    return "\n".join(["| alert | when, for how long | meaning |", "|---|---|---|", *rows, ""])


# ── plugins ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def plugins_reference() -> str:
    """What ``--list-plugins`` prints."""
    return f"```text\n{list_plugins().rstrip()}\n```\n"


# ── Markdown ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _row(*cells: str) -> str:
    return f"| {' | '.join(_cell(each) for each in cells)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plain(text: str) -> str:
    """Text of the code: what Markdown would take for markup is said as it is, but for code."""
    pieces = text.split("`")
    return "`".join(
        piece if index % 2 else re.sub(r"([*_<>\[\]])", r"\\\1", piece) for index, piece in enumerate(pieces)
    )


REFERENCES: Mapping[str, Callable[[], str]] = {
    "settings": settings_reference,
    "api": api_reference,
    "metrics": metrics_reference,
    "alerts": alerts_reference,
    "plugins": plugins_reference,
}


def expand(text: str) -> str:
    """A page with its references in place."""
    return _PLACE.sub(lambda place: REFERENCES[place[1]](), text)


def others(index: str) -> Sequence[str]:
    """The pages that the index does not name."""
    named = {line.strip() for line in index.splitlines()}
    return sorted(path.stem for path in DOCS.glob("*.md") if path.stem not in {*named, "index"})


def setup(app: Any) -> Mapping[str, bool]:
    """Make it an extension of Sphinx."""

    def read(sphinx: Any, page: str, source: list[str]) -> None:
        text = expand(source[0])
        if page == "index":
            text = text.replace("<!-- others -->", "\n".join(others(text)))
        if text != source[0] or page == "index":
            sphinx.env.note_reread()  # what it is made of may change where the page does not
        source[0] = text

    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
