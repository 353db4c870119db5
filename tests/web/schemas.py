"""Values that fit a JSON schema, as far as the description of the HTTP interface uses it."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import strategies as st

__all__ = ["fitting"]

#: Of one byte each: a schema cannot say that a text is limited in bytes.
_ASCII = st.characters(max_codepoint=127)


def fitting(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[Any]:
    """
    Values that fit ``schema``.

    :param document: what its references lead into.
    """
    if "$ref" in schema:
        return fitting(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return st.one_of([fitting(each, document) for each in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return {
        "string": _text,
        "integer": lambda schema, _: st.integers(schema["minimum"], schema["maximum"]),
        "boolean": lambda *_: st.booleans(),
        "null": lambda *_: st.none(),
        "object": _object,
    }[schema["type"]](schema, document)


def _text(schema: dict[str, Any], _: dict[str, Any]) -> st.SearchStrategy[str]:
    forbidden = schema.get("not", {}).get("enum", ())
    longest = schema.get("maxLength", 1000)
    if "pattern" not in schema:
        return st.text(_ASCII, max_size=longest)
    texts = st.from_regex(re.compile(schema["pattern"], re.ASCII), fullmatch=True)
    return texts.filter(lambda text: len(text) <= longest and text not in forbidden)


def _object(schema: dict[str, Any], document: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    properties = {name: fitting(each, document) for name, each in schema["properties"].items()}
    needed = {name: properties.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(needed, optional=properties)
