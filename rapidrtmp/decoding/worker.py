"""
The process that decodes for one sink of one stream: ``python -m rapidrtmp.decoding.worker MODULE:CLASS JSON``.

Frames come on the standard input, answers leave on the standard output; what the sink prints goes to the standard
error. It ends when its input does, which is also when the server is gone.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from rapidrtmp.decoding.base import Cue, DecodingSink, Mark, Note, Result, Upload
from rapidrtmp.decoding.decoders import PictureDecoder, SoundDecoder
from rapidrtmp.decoding.wire import Kind, MessageReader, TrackDescription, WireError, pack_result, unpack_frame

__all__ = ["Worker", "main"]

#: Below that of the server, which comes first.
NICENESS = 5
READ_BYTES = 1 << 16


class Worker:
    """
    Decodes what comes, and calls the sink.

    :param answer: takes what is to be written to the server.
    :param every_ms: how far apart pictures are, at least.
    """

    def __init__(self, sink: DecodingSink, every_ms: int, answer: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._every_ms = every_ms
        self._answer = answer
        self._pictures: dict[int, PictureDecoder] = {}
        self._sounds: dict[int, SoundDecoder] = {}

    def take(self, kind: int, body: bytes) -> None:
        """Take one message."""
        if kind == Kind.TRACK:
            self._take_track(TrackDescription.read(body))
        elif kind == Kind.FRAME:
            self._take_frame(body)

    def _take_track(self, track: TrackDescription) -> None:
        """Begin with a track, or with another configuration of it."""
        self._end_track(track.id)
        if track.kind == "video":
            self._pictures[track.id] = PictureDecoder(track, self._every_ms)
        else:
            self._sounds[track.id] = SoundDecoder(track, self._sink.audio_chunk_ms)

    def _take_frame(self, body: bytes) -> None:
        header, data = unpack_frame(body)
        if header.track_id in self._pictures:
            self._show(self._pictures[header.track_id].decode(header, data))
        elif header.track_id in self._sounds:
            sound = self._sounds[header.track_id]
            self._play(sound, sound.decode(header, data))

    def _end_track(self, track_id: int) -> None:
        """Give what is held of a track."""
        if picture := self._pictures.pop(track_id, None):
            self._show(picture.drain())
        if sound := self._sounds.pop(track_id, None):
            self._play(sound, sound.drain())

    def _show(self, pictures: Iterable[tuple[Any, int]]) -> None:
        for image, utc_ms in pictures:
            self._call(self._sink.picture, image, utc_ms)

    def _play(self, sound: SoundDecoder, chunks: Iterable[tuple[Any, int]]) -> None:
        for samples, utc_ms in chunks:
            self._sink.sample_rate = sound.sample_rate
            self._call(self._sink.audio, samples, utc_ms)

    def finish(self) -> None:
        """End: give what is held."""
        for track_id in (*self._pictures, *self._sounds):
            self._end_track(track_id)
        self._call(self._sink.close)

    def _call(self, method: Callable[..., Result], *arguments: object) -> None:
        """Call the sink and pass its answer on; what it raises is logged, and no more."""
        try:
            result = method(*arguments)
            for each in (
                () if result is None else (result,) if isinstance(result, Cue | Mark | Note | Upload) else result
            ):
                self._answer(pack_result(each))
        except WireError as error:
            print(error, file=sys.stderr)
        except BrokenPipeError:
            raise  # the server is gone
        except Exception:
            traceback.print_exc()


def _load(path: str) -> type[DecodingSink]:
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found  # type: ignore[no-any-return]


def _take_output() -> BinaryIO:
    """The standard output, for answers alone: what is printed from now on goes to the standard error."""
    output = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return output


def main(arguments: list[str]) -> None:
    """Work until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of a terminal, to the server and all that belongs to it
    os.nice(NICENESS)
    output = _take_output()
    job = json.loads(arguments[1])
    worker = Worker(_load(arguments[0])(**job["options"]), job["everyMs"], lambda data: _write(output, data))
    reader = MessageReader()
    while data := os.read(0, READ_BYTES):
        for kind, body in reader.feed(data):
            worker.take(kind, body)
    worker.finish()


def _write(output: BinaryIO, data: bytes) -> None:
    """Write all of it, however little the pipe takes at a time."""
    view = memoryview(data)
    while view:
        view = view[output.write(view) :]


if __name__ == "__main__":
    main(sys.argv[1:])
