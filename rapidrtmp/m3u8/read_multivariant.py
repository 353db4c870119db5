"""Multivariant playlist text into values, strictly (RFC 8216 bis, 4.4.6); as in ``rapidrtmp.m3u8.read``."""

from __future__ import annotations

from dataclasses import replace

from rapidrtmp.m3u8.attributes import Attributes, BadValueError, parse_integer
from rapidrtmp.m3u8.model import MultivariantPlaylist, Problem, Rendition, Variant
from rapidrtmp.m3u8.read import playlist_lines

__all__ = ["is_multivariant", "parse_multivariant_playlist"]

_GROUPS = ("AUDIO", "VIDEO", "SUBTITLES", "CLOSED-CAPTIONS")
_MULTIVARIANT_TAGS = ("#EXT-X-STREAM-INF:", "#EXT-X-MEDIA:", "#EXT-X-I-FRAME-STREAM-INF:")


def is_multivariant(text: str | bytes) -> bool:
    """Whether a playlist lists variants, not segments."""
    return any(line.startswith(_MULTIVARIANT_TAGS) for line in playlist_lines(text)[0])


def parse_multivariant_playlist(text: str | bytes) -> MultivariantPlaylist:
    """Read a multivariant playlist (4.4.6)."""
    lines, problems = playlist_lines(text)
    version, variants, renditions, i_frames = 1, list[Variant](), list[Rendition](), list[Variant]()
    pending: Variant | None = None
    for number, line in enumerate(lines, 1):
        name, _, value = line.partition(":")
        try:
            if line and line[0] != "#":
                if pending is None:
                    raise BadValueError("a URI without EXT-X-STREAM-INF before it")
                variants.append(replace(pending, uri=line))
                pending = None
            elif name == "#EXT-X-STREAM-INF":
                if pending is not None:
                    raise BadValueError("the variant before has no URI")
                pending = _variant(Attributes(value))
            elif name == "#EXT-X-I-FRAME-STREAM-INF":
                attributes = Attributes(value)
                i_frames.append(replace(_variant(attributes), uri=attributes.uri()))
            elif name == "#EXT-X-MEDIA":
                renditions.append(_rendition(Attributes(value)))
            elif name == "#EXT-X-VERSION":
                version = parse_integer(value)
            elif name in ("#EXTINF", "#EXT-X-TARGETDURATION", "#EXT-X-MEDIA-SEQUENCE", "#EXT-X-PART"):
                raise BadValueError("belongs in a media playlist")
        except BadValueError as error:
            problems.append(Problem(number, f"{name if line[0] == '#' else 'URI'}: {error}"))
    if pending is not None:
        problems.append(Problem(len(lines), "the last variant has no URI"))
    problems += _unknown_groups(variants, renditions)
    return MultivariantPlaylist(version, tuple(variants), tuple(renditions), tuple(i_frames), tuple(problems))


def _variant(attributes: Attributes) -> Variant:
    groups = {}
    for kind in _GROUPS:
        if attributes.raw.get(kind, "NONE") != "NONE":
            groups[kind] = attributes.quoted(kind)
    return Variant(
        uri="",
        bandwidth=attributes.integer("BANDWIDTH"),
        average_bandwidth=attributes.integer("AVERAGE-BANDWIDTH", 0),
        codecs=attributes.quoted("CODECS", ""),
        resolution=attributes.enumerated("RESOLUTION", ""),
        groups=groups,
    )


def _rendition(attributes: Attributes) -> Rendition:
    kind = attributes.enumerated("TYPE")
    if kind not in _GROUPS:
        raise BadValueError(f"TYPE is {kind!r}")
    attributes.yes("DEFAULT")
    attributes.yes("AUTOSELECT")
    return Rendition(kind, attributes.quoted("GROUP-ID"), attributes.quoted("NAME"), attributes.quoted("URI", ""))


def _unknown_groups(variants: list[Variant], renditions: list[Rendition]) -> list[Problem]:
    known = {(rendition.kind, rendition.group) for rendition in renditions}
    wanted = {group for variant in variants for group in variant.groups.items()}
    return [Problem(0, f"no EXT-X-MEDIA has the {kind} group {group!r}") for kind, group in sorted(wanted - known)]
