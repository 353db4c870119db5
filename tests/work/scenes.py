"""
What is counted: a publisher's messages, and what viewers ask for.

The publisher sends 720p30 H.264 and AAC at 44.1 kHz, 73 messages a second in chunks of 4096, a keyframe every two
seconds, in the sizes of a stream of 2.5 Mbit/s. Requests have the header block of a browser.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import count

from benchmarks.clip import Tag
from benchmarks.publishers import connect_commands, set_chunk_size, write_chunks
from rapidrtmp.hls.names import MEDIA_PLAYLIST as PLAYLIST
from rapidrtmp.live.shelf import contains
from tests.codec.builders import ASC_44K, audio_config, picture, sound, video_config
from tests.work.meter import Meter
from tests.work.world import NAME, Line, Script, World

CHUNK_BYTES = 4096
KEYFRAME_EVERY, KEYFRAME_BYTES, PICTURE_BYTES, SOUND_BYTES = 60, 45_000, 9_300, 370
#: Until the playlist's window is full and what leaves it is taken down: from here on every second is like the next.
MESSAGE, PLAYLIST_REQUEST, PART_REQUEST, HELD_RELOAD = "message", "playlist", "part", "held reload"
WARM_UP_S = 50
#: How long the publisher is counted; whole GOPs and segments.
COUNTED_S = 10
REQUESTS = 50
VIEWERS = 10
HEADER_BLOCK = (
    b"Host: media.example.org\r\nConnection: keep-alive\r\n"
    b"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 Safari/537.36\r\n"
    b"Accept: */*\r\nOrigin: https://www.example.org\r\nReferer: https://www.example.org/watch\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-GB,en;q=0.9\r\n\r\n"
)


# ── the publisher ────────────────────────────────────────────────────────────────────────────────────────────────────


def tags() -> Iterator[Tag]:
    """Codec configs, then pictures and sound for ever, by time."""
    yield Tag(9, 0, video_config())
    yield Tag(8, 0, audio_config(ASC_44K))
    sounds = (Tag(8, round(Fraction(1024_000, 44_100) * number), _sound(number)) for number in count())
    next_sound = next(sounds)
    for number in count():
        time_ms = round(Fraction(1000, 30) * number)
        while next_sound.time_ms < time_ms:
            yield next_sound
            next_sound = next(sounds)
        yield Tag(9, time_ms, _picture(number))


def _picture(number: int) -> bytes:
    is_keyframe = number % KEYFRAME_EVERY == 0
    payload = picture(is_keyframe, mark=number)
    size = KEYFRAME_BYTES if is_keyframe else PICTURE_BYTES
    nal_unit = payload[9:].ljust(size, b"\x55")
    return payload[:5] + len(nal_unit).to_bytes(4, "big") + nal_unit


def _sound(number: int) -> bytes:
    return sound(number).ljust(SOUND_BYTES, b"\x55")


class Publisher:
    """
    Publishes, at the pace of the media.

    :ivar messages: how many it has sent so far; likewise ``sent_bytes``.
    """

    def __init__(self, world: World) -> None:
        self.messages = self.sent_bytes = 0
        self._outside = world.outside
        self._line = world.connect(world.service.rtmp.number)
        self._messages = write_chunks(tags(), CHUNK_BYTES)
        self._begun_s = 0.0
        self._sent_ms = 0

    def begin(self) -> Script:
        """Until the publish is accepted."""
        opening, publish = connect_commands(NAME.app, NAME.key)
        for said in (b"\x03" + bytes(2 * 1536), opening, publish, set_chunk_size(CHUNK_BYTES)):
            yield self._outside.now_s
            self._line.say(said)
        yield self._outside.now_s
        self._begun_s = self._outside.now_s

    def send(self, seconds: int, reloaders: Sequence[Reloader] = ()) -> Script:
        """So many seconds of media, before the eyes of viewers."""
        end_ms = self._sent_ms + seconds * 1000
        for due in self._messages:
            yield self._begun_s + due.time_ms / 1000
            for reloader in reloaders:
                reloader.go_on()
            self._line.say(due.data)
            self.messages += 1
            self.sent_bytes += len(due.data)
            self._sent_ms = due.time_ms
            if due.time_ms >= end_ms:
                break
        yield self._outside.now_s
        self._line.drop_answers()


# ── viewers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def ask(line: Line, name: str) -> None:
    """Ask for something of the stream."""
    line.say(f"GET /{NAME}/{name} HTTP/1.1\r\n".encode() + HEADER_BLOCK)


def latest_part(world: World) -> str:
    """The name of a part that is there."""
    version = world.stream.shelf.find_playlist(PLAYLIST)
    assert version is not None
    return str(re.findall(rb'"(part_[0-9.]+m4s)",', version.facts.body)[-1], "ascii")


def ask_often(line: Line, name: str, times: int, now_s: float) -> Script:
    """One viewer that asks for the same again as soon as it has it."""
    for _ in range(times):
        ask(line, name)
        yield now_s
        line.answer()


class Reloader:
    """
    A viewer that always holds a reload for the next part.

    :ivar answered: how many it has got.
    """

    def __init__(self, world: World) -> None:
        self.answered = 0
        self._stream = world.stream
        self._line = world.connect(world.service.http.number)
        self._awaited: tuple[int, int] | None = None

    def go_on(self) -> None:
        """Take the answer, if it has come, and ask for the next."""
        version = self._stream.shelf.find_playlist(PLAYLIST)
        assert version is not None
        if self._awaited is not None:
            if not contains(version.facts, *self._awaited):
                return
            self._line.answer()
            self.answered += 1
        hint = re.search(rb'PRELOAD-HINT:TYPE=PART,URI="part_(\d+)\.(\d+)\.m4s"', version.facts.body)
        assert hint is not None
        self._awaited = int(hint[1]), int(hint[2])
        ask(self._line, f"{PLAYLIST}?_HLS_msn={self._awaited[0]}&_HLS_part={self._awaited[1]}")


# ── the scenes ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Section:
    """
    A stretch of a scene that was counted.

    :ivar times: how often it did what is counted: messages, requests.
    :ivar sent_bytes: in messages.
    """

    meter: Meter
    times: int
    sent_bytes: int = 0


Sections = dict[str, Section]


def play(make_meter: Callable[[], Meter], prepare: Callable[[World], object] = lambda world: None) -> Sections:
    """
    A publisher; then, while it is silent, a viewer that asks for the playlist and for the latest part; by name.

    :param prepare: called when the publish has begun.
    """
    world = World()
    sections: Sections = {}

    def script() -> Script:
        publisher = Publisher(world)
        yield from publisher.begin()
        prepare(world)
        yield from publisher.send(WARM_UP_S)
        messages, sent_bytes = publisher.messages, publisher.sent_bytes
        meter = make_meter()
        yield from world.outside.count(meter, publisher.send(COUNTED_S))
        sections[MESSAGE] = Section(meter, publisher.messages - messages, publisher.sent_bytes - sent_bytes)
        line = world.connect(world.service.http.number)
        yield world.outside.now_s
        for name, asked in ((PLAYLIST_REQUEST, PLAYLIST), (PART_REQUEST, latest_part(world))):
            yield from ask_often(line, asked, 2, world.outside.now_s)  # the first prepares what all others get
            meter = make_meter()
            yield from world.outside.count(meter, ask_often(line, asked, REQUESTS, world.outside.now_s))
            sections[name] = Section(meter, REQUESTS)

    world.run(script())
    return sections


def play_with_tokens(make_meter: Callable[[], Meter], play: tuple[str, ...], token: str) -> Section:
    """
    A viewer that asks for the playlist again and again.

    :param play: who may watch.
    :param token: what it shows; ``""`` for nothing.
    """
    world = World(play)
    sections: Sections = {}

    def script() -> Script:
        publisher = Publisher(world)
        yield from publisher.begin()
        yield from publisher.send(4)
        line = world.connect(world.service.http.number)
        yield world.outside.now_s
        asked = f"~{token}/{PLAYLIST}" if token else PLAYLIST
        yield from ask_often(line, asked, 2, world.outside.now_s)
        meter = make_meter()
        yield from world.outside.count(meter, ask_often(line, asked, REQUESTS, world.outside.now_s))
        sections[PLAYLIST_REQUEST] = Section(meter, REQUESTS)

    world.run(script())
    return sections[PLAYLIST_REQUEST]


def play_watched(make_meter: Callable[[], Meter]) -> Sections:
    """The same publisher, with viewers that hold reloads all the time: all the work there is, for so many reloads."""
    world = World()
    sections: Sections = {}

    def script() -> Script:
        publisher = Publisher(world)
        yield from publisher.begin()
        yield from publisher.send(WARM_UP_S - 2)
        reloaders = [Reloader(world) for _ in range(VIEWERS)]
        yield world.outside.now_s
        yield from publisher.send(2, reloaders)
        answered = sum(each.answered for each in reloaders)
        meter = make_meter()
        yield from world.outside.count(meter, publisher.send(COUNTED_S, reloaders))
        sections[HELD_RELOAD] = Section(meter, sum(each.answered for each in reloaders) - answered)

    world.run(script())
    return sections
