"""A box tree for people, as ``rapidrtmp inspect`` prints it."""

from __future__ import annotations

from collections.abc import Iterator
from mmap import mmap
from typing import Any

from rapidrtmp.cmaf.reader import (
    Box,
    as_text,
    box_fields,
    entry_fields,
    read_boxes,
)
from rapidrtmp.codec.esds import OBJECT_TYPES, read_object_type
from rapidrtmp.codec.table import AAC, CODECS, codec_of_entry
from rapidrtmp.errors import MediaError
from rapidrtmp.media import MediaKind

__all__ = ["describe"]

_BRANDS = ("major_brand", "minor_version", "compatible_brands")
#: What is worth telling of a box, by pymp4's names.
_TOLD = {
    "ftyp": _BRANDS,
    "styp": _BRANDS,
    "mvhd": ("timescale", "duration", "next_track_ID"),
    "tkhd": ("track_ID", "duration"),
    "mdhd": ("timescale", "duration", "language"),
    "hdlr": ("handler_type", "name"),
    "trex": ("track_ID", "default_sample_duration", "default_sample_size"),
    "mfhd": ("sequence_number",),
    "tfhd": ("track_ID", "base_data_offset", "default_sample_duration", "default_sample_size"),
    "tfdt": ("baseMediaDecodeTime",),
}
_MAX_DEPTH = 16


def describe(data: bytes | mmap) -> str:
    """
    A box tree for people: a line per box with its size, its offset and its important fields, indented by depth.

    Damage is shown where it is, on a line that begins with ``!``, or beside the box it is in; nothing is raised.
    """
    return "\n".join(_describe(read_boxes(data), 0))


def _describe(boxes: Iterator[Box], depth: int) -> Iterator[str]:
    """The lines of some boxes and of all in them."""
    indent = "  " * depth
    try:
        for box in boxes:
            try:
                description = _tell(box)
            except MediaError as error:
                description = f"! {error}"
            yield _printable(f"{indent}{box.kind} {box.size} at {box.offset}" + (description and f": {description}"))
            if depth < _MAX_DEPTH:
                yield from _describe(box.children(), depth + 1)
    except MediaError as error:
        yield _printable(f"{indent}! {error}")


def _tell(box: Box) -> str:
    """The important fields of one box; empty if there are none."""
    if box.kind in _TOLD:
        fields = box_fields(box)
        return ", ".join(f"{name} {as_text(fields[name])}" for name in _TOLD[box.kind] if fields[name] is not None)
    codec = codec_of_entry(box.kind)
    if codec is not None:
        is_video = codec.kind is MediaKind.VIDEO
        template = "{width}x{height}" if is_video else "{channels} channels, {sampling_rate} Hz"
        return template.format_map(entry_fields(box))
    if box.kind == "trun":
        return _tell_trun(box_fields(box))
    if box.kind == AAC.box:
        return _tell_descriptor(box)
    is_record = any(box.kind == codec.box for codec in CODECS.values())
    return box.body.hex(" ") if is_record or box.kind in ("colr", "pasp", "mdcv", "clli") else ""


def _tell_descriptor(box: Box) -> str:
    """What an elementary stream descriptor tells of audio."""
    object_type = read_object_type(box.body)
    if object_type in OBJECT_TYPES:
        return f"AudioSpecificConfig {AAC.read_box(box.body).hex(' ')}"
    return f"object type {object_type:#04x}"


def _tell_trun(run: Any) -> str:
    """A ``trun`` in one line: sums, not samples."""
    facts = [f"{run.sample_count} samples"]
    rows = run.sample_info
    if run.flags.sample_duration_present:
        facts.append(f"duration {sum(row.sample_duration for row in rows)}")
    if run.flags.sample_size_present:
        facts.append(f"{sum(row.sample_size for row in rows)} bytes")
    if run.flags.sample_flags_present:
        facts.append(f"{sum(not row.sample_flags.sample_is_non_sync_sample for row in rows)} sync")
    if run.flags.sample_composition_time_offsets_present and rows:
        offsets = [row.sample_composition_time_offsets for row in rows]
        facts.append(f"composition offsets {min(offsets)} to {max(offsets)}")
    if run.data_offset is not None:
        facts.append(f"data offset {run.data_offset}")
    return ", ".join(facts)


def _printable(line: str) -> str:
    """The line without what could move a terminal's cursor."""
    return "".join(char if char.isprintable() else "?" for char in line)
