"""
What it costs to send recordings from the disk, and what that does to live streams meanwhile.

    python -m benchmarks.recordings_read --streams 10 --clients 8 --megabytes 300

Ten streams are published and each is watched by a low-latency viewer, while clients fetch a recording as fast as they
can: as one file, a range in the middle of it, and a segment of its playlist (all these only of more than 19
megabytes); the playlist of twelve hours, clips of three hours, each another, and the list of 50,000 recordings. The
recording is made beforehand, by the real recorder, faster than real time. CPU time is the server's, less what it used
in calm; lateness is that of parts at the viewers, from when their last picture was sent. The clients yield to
publishers and viewers, who share a processor with them. Medians over the rounds, but the worst of all.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.internet.task import Clock
from twisted.logger import Logger

from benchmarks.clip import make_clip
from benchmarks.generators import publishing, watching
from benchmarks.servers import Running, rapidrtmp
from benchmarks.wrk import RANDOM, Load, fetch, load
from rapidrtmp.archive.journal import Header, Journal, RecordedPart, RecordedSegment, render_header, render_segment
from rapidrtmp.archive.layout import RecordingId, page_name
from rapidrtmp.interfaces import StorageContext
from rapidrtmp.recording.catalogue import Entry, RecordingState
from rapidrtmp.recording.sink import RecorderFactory
from rapidrtmp.recording.writer import LINES_PER_PAGE
from rapidrtmp.storage.filesystem import LocalStorageFactory
from rapidrtmp.storage.write_behind import WriteBehind
from rapidrtmp.testing.frames import audio_frames, interleaved, make_audio_track, make_video_track, video_frames
from rapidrtmp.testing.sinks import feed, make_sink_context, packaged

FILL_S, SETTLE_S = 8, 2
#: Streams begin over this time, so that their keyframes and, if there are ten, their parts do not come together.
SPREAD_S = 7 / 3
#: A minute of video and audio with frames of this size in bytes has 2.5 Mbit/s.
MINUTE_S, MINUTE_BYTES, FRAME_BYTES = 60, 18_750_000, 8_800
CALM = "calm"


def make_recording(directory: Path, megabytes: int) -> str:
    """A recording of about that size in a local storage; returns its path on the server."""
    storage = LocalStorageFactory(str(directory)).create(StorageContext(maybeDeferred, Clock(), Logger()))
    context = make_sink_context(storage=WriteBehind(storage, Clock()))
    recorder = packaged(RecorderFactory(rotate="0").create(context))
    video, audio = make_video_track(), make_audio_track()
    recorder.tracks_changed((video, audio))
    for minute in range(-(-megabytes * 1_000_000 // MINUTE_BYTES)):
        pictures = video_frames(video, MINUTE_S, first=minute * MINUTE_S * 30, size=FRAME_BYTES)
        sounds = audio_frames(audio, MINUTE_S, first=minute * round(MINUTE_S * 48_000 / 1024))
        feed(recorder, interleaved(pictures, sounds))
    recorder.finish()
    (found,) = (directory / "recordings" / str(context.stream)).iterdir()
    return f"/{found.relative_to(directory)}"


def make_library(directory: Path, hours: int, count: int) -> str:
    """
    A recording of so many hours, and a catalogue of so many: journals and entries alone, without media.

    :returns: the path of the long recording on the server.
    """
    storage = LocalStorageFactory(str(directory)).create(StorageContext(maybeDeferred, Clock(), Logger()))
    begun = datetime(2026, 1, 1, tzinfo=UTC)
    begun_ms = int(begun.timestamp()) * 1000
    header = Header("live", "long", begun_ms, 90_000, 2, ("avc1.64001f", "mp4a.40.2"), 1280, 720, b"init")
    parts = tuple(RecordedPart(100_000, 30_000, keyframe=index == 0) for index in range(6))
    segments = [
        RecordedSegment(number, begun_ms + number * 2000, number * 180_000, False, parts)
        for number in range(hours * 1800)
    ]
    long = RecordingId("live", "long", f"{begun:%Y%m%dT%H%M%SZ}")
    lines = [render_header(header), *map(render_segment, segments)]
    for page, at in enumerate(range(0, len(lines), LINES_PER_PAGE)):
        storage.put(f"{long.folder}/{page_name(page)}", b"".join(lines[at : at + LINES_PER_PAGE]), "", "")
    entry = Entry.of_journal(long, RecordingState.FINISHED, Journal(header, segments)).render()
    storage.put(long.catalogue_key, entry, "", "")
    for number in range(count):
        moment = begun - timedelta(minutes=number + 1)
        id = RecordingId("live", f"many{number % 50}", f"{moment:%Y%m%dT%H%M%SZ}")
        storage.put(id.catalogue_key, entry, "", "")
    return f"/{long.folder}"


def dear_requests(long: str) -> dict[str, tuple[str, dict[str, str]]]:
    """What takes long to make; where it says RANDOM it is another one each time."""
    gzip = {"Accept-Encoding": "gzip"}
    return {
        "long playlist": (f"{long}/index.m3u8", gzip),
        "clips of three hours": (f"{long}/clip.m3u8?from=1{RANDOM}ms&to=3h", gzip),
        "clips as movies": (f"{long}/clip.mp4?from=1{RANDOM}ms&to=3h", {"Range": "bytes=0-99"}),
        "list of recordings": ("/recordings", {}),
    }


def requests(recording: str, size: int) -> dict[str, tuple[str, dict[str, str]]]:
    """What is asked for: the path and header fields of each kind of load."""
    middle = size // 2
    return {
        "movie": (f"{recording}/recording.mp4", {}),
        "movie, 4 MB of it": (
            f"{recording}/recording.mp4",
            {"Range": f"bytes={middle}-{middle + 3_999_999}"},
        ),
        "segment": (f"{recording}/segment_00000003.m4s", {}),
    }


def calm(server: Running, seconds: int) -> Load:
    """Nothing is asked."""
    begin, begin_cpu = time.monotonic(), server.cpu_seconds()
    time.sleep(seconds)
    return Load(0, 0, server.cpu_seconds() - begin_cpu, time.monotonic() - begin)


def rounds(arguments: argparse.Namespace) -> Iterator[tuple[str, Load, dict[str, Any]]]:
    """Every kind of load once a round, after calm: what was sent, and what the viewers saw."""
    with tempfile.TemporaryDirectory(prefix="rapidrtmp-bench-", dir=arguments.directory) as folder:
        recording = make_recording(Path(folder) / "streams", arguments.megabytes)
        long = make_library(Path(folder) / "streams", arguments.hours, arguments.recordings)
        lasts = FILL_S + arguments.rounds * 8 * (arguments.seconds + SETTLE_S + 5) + 60
        with (
            rapidrtmp(Path(folder), "--storage=local:streams", "--sink=hls") as server,
            publishing(server, arguments.streams, lasts, "--stamp", f"--spread={SPREAD_S}"),
        ):
            time.sleep(FILL_S)
            asked = requests(recording, len(fetch(server.http_port, f"{recording}/recording.mp4")))
            asked = (asked if arguments.megabytes > MINUTE_BYTES // 1_000_000 else {}) | dear_requests(long)
            for _ in range(arguments.rounds):
                for kind in (CALM, *asked):
                    options = (f"--streams={arguments.streams}", f"--settle={SETTLE_S}")
                    with watching(server, arguments.streams, arguments.seconds, *options) as viewers:
                        if kind == CALM:
                            sent = calm(server, arguments.seconds - 1)
                        else:
                            how = {"connections": arguments.clients, "seconds": arguments.seconds - 1}
                            sent = load(server, *asked[kind], **how, yielding=True)
                        yield kind, sent, viewers.report()


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--streams", type=int, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--megabytes", type=int, default=300)
    parser.add_argument("--hours", type=int, default=12, help="how long the recording is of which playlists are made")
    parser.add_argument("--recordings", type=int, default=50_000, help="how many there are in the list")
    parser.add_argument("--seconds", type=int, default=7)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()), help="on the disk to read from")
    arguments = parser.parse_args()
    make_clip()
    results: dict[str, list[tuple[Load, dict[str, Any]]]] = {}
    for kind, sent, seen in rounds(arguments):
        results.setdefault(kind, []).append((sent, seen))
    report(results, arguments)


def report(results: dict[str, list[tuple[Load, dict[str, Any]]]], arguments: argparse.Namespace) -> None:
    """The medians, as a table and as JSON."""
    calm_cpu = median(sent.cpu_seconds / sent.elapsed for sent, _ in results[CALM])
    summary = {kind: summarise(found, calm_cpu) for kind, found in results.items()}
    print(
        f"{arguments.streams} live streams, {arguments.clients} clients of a recording of {arguments.megabytes} MB, "
        f"{arguments.rounds} rounds of {arguments.seconds} s"
    )
    print(
        f"{'':<20}{'GB/CPU-s':>10}{'GB/s':>8}{'CPU':>7}{'late p50':>11}{'p99':>8}{'worst':>8}{'generator p99':>15} ms"
    )
    for kind, row in summary.items():
        print(
            f"{kind:<20}{row['gigabytes_per_cpu_second']:>10.2f}{row['gigabytes_per_second']:>8.2f}{row['cpu']:>7.0%}"
            f"{row['late_p50_ms']:>11.1f}{row['late_p99_ms']:>8.1f}{row['late_max_ms']:>8.1f}"
            f"{row['generator_late_p99_ms']:>15.1f}"
        )
    print(json.dumps({"streams": arguments.streams, "clients": arguments.clients, "results": summary}))


def summarise(found: list[tuple[Load, dict[str, Any]]], calm_cpu: float) -> dict[str, float]:
    """One row; ``calm_cpu`` is what share of a processor the live streams take."""
    spent = [(sent.read_bytes, max(0.001, sent.cpu_seconds - calm_cpu * sent.elapsed)) for sent, _ in found]
    return {
        "gigabytes_per_cpu_second": round(median(size / cpu for size, cpu in spent) / 1e9, 3),
        "gigabytes_per_second": round(median(sent.read_bytes / sent.elapsed for sent, _ in found) / 1e9, 3),
        "cpu": round(median(sent.cpu_seconds / sent.elapsed for sent, _ in found), 3),
        "late_p50_ms": median(seen["part_late"]["p50_ms"] for _, seen in found),
        "late_p99_ms": median(seen["part_late"]["p99_ms"] for _, seen in found),
        "late_max_ms": max(seen["part_late"]["max_ms"] for _, seen in found),
        "generator_late_p99_ms": median(seen["generator_late"]["p99_ms"] for _, seen in found),
    }


if __name__ == "__main__":
    main()
