"""The page of recordings."""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.archive.layout import RecordingId
from rapidrtmp.auth.keys import FixedKeys
from rapidrtmp.auth.token import TokenAuthenticator
from rapidrtmp.cmaf.reader import read_boxes
from rapidrtmp.names import StreamName
from rapidrtmp.recording import page
from rapidrtmp.recording.page import ROWS_PER_PAGE, render_bytes, render_clock
from tests.recording.recordings import ID, record, store_into
from tests.web.kit import Server


class LibraryPageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server(api_token="secret")

    def page(self, path: str = "/recordings") -> str:
        reply = self.server.get(path, peer="192.0.2.1")
        self.assertEqual(200, reply.status)
        return reply.text()

    def test_empty_library_says_so(self) -> None:
        """Where nothing was recorded the page says so, and the list of live streams leads to it."""
        self.assertIn("Nothing has been recorded yet", self.page())
        self.assertIn('href="recordings"', self.page("/"))

    def test_recordings_are_shown_with_links(self) -> None:
        """Every viewer sees each recording with its stream, time, duration and size; its links can be followed."""
        store_into(self.server.storage, record(), record(4, stream=StreamName("live", "other"), finish=False))
        text = self.page()
        self.assertIn('<span class="name">live/test</span>', text)
        self.assertIn('<time datetime="2026-01-01T00:00:00Z">2026-01-01 00:00:00 UTC</time> · 0:14 · ', text)
        self.assertIn("recording now", text)
        self.assertNotIn("finished", text)
        for url in re.findall(r'href="(recordings/[^"]+)"', text):
            self.assertEqual(200, self.server.get(f"/{url}", peer="192.0.2.1").status, url)

    def test_recordings_have_pictures(self) -> None:
        """Each recording has a picture, a film of a few frames from a keyframe on; to look is no viewing."""
        store_into(self.server.storage, record(), record(4, stream=StreamName("live", "other"), finish=False))
        pictures = re.findall(r'data-src="(recordings/[^"]+)"', self.page())
        self.assertEqual(2, len(pictures))
        for url, caching in zip(pictures, ("public, max-age=3600", "no-cache"), strict=True):
            reply = self.server.get(f"/{url}", peer="192.0.2.1")
            self.assertEqual((200, "video/mp4"), (reply.status, reply.headers["content-type"]))
            self.assertEqual(caching, reply.headers["cache-control"], url)
            self.assertEqual(["ftyp", "moov", "moof", "mdat"], [box.kind for box in read_boxes(reply.body)])
        self.assertEqual(0, self.server.metric("recording_viewers"))

    def test_pictures_need_what_watching_needs(self) -> None:
        """Where watching needs a token the page has no pictures, and they are not to be had without it."""
        self.server = Server(judge=TokenAuthenticator(FixedKeys([b"0123456789abcdef"]), self.server.utc_ms))
        store_into(self.server.storage, record())
        self.assertNotIn("data-src", self.page())
        path = "/recordings/live/test/20260101T000000Z/poster.mp4"
        self.assertEqual(401, self.server.get(path, peer="192.0.2.1").status)

    def test_title_is_shown_and_searched(self) -> None:
        """A title stands in the place of the name, and is found by any part of it, here and in the API."""
        store_into(self.server.storage, record())
        reply = self.server.post(f"/api/v1/recordings/{ID}/title", {"title": "Opening <Night>"})
        self.assertEqual((200, "Opening <Night>"), (reply.status, reply.json()["title"]))
        text = self.page("/recordings?q=opening")
        self.assertIn('<span class="name">Opening &lt;Night&gt;</span>', text)
        self.assertIn(" · live/test · ", text)
        self.assertIn("No recording", self.page("/recordings?q=closing"))
        for wanted, count in (("NIGHT", 1), ("closing", 0)):
            self.assertEqual(count, self.server.get(f"/api/v1/recordings?q={wanted}").json()["total"])

    def test_search_by_name_and_day(self) -> None:
        """A search shows what has its words in name or day, also over pages, and says what it has not found."""
        store_into(self.server.storage, record(), record(stream=StreamName("live", "Other")))
        for words, found in (("other", 1), ("LIVE/t", 1), ("2026-01", 2), ("2025", 0)):
            text = self.page(f"/recordings?q={words}")
            self.assertEqual(found, text.count('class="play"'), words)
            self.assertIn(f'value="{words.lower()}"', text)
        self.assertIn("No recording has “&lt;b&gt;” in its title, name or day", self.page("/recordings?q=%3Cb%3E"))

    def test_broken_recordings_have_no_links(self) -> None:
        """What cannot be played is shown, without links."""
        writer = record(4)
        for key in [key for key in writer.objects if "journal" in key or "init" in key]:
            del writer.objects[key]
        (entry,) = [key for key in writer.objects if "catalogue" in key]
        writer.objects[entry] = writer.objects[entry].replace(b'"finished"', b'"damaged"')
        store_into(self.server.storage, writer)
        text = self.page()
        self.assertIn("damaged", text)
        self.assertNotIn("recording.mp4", text)

    def test_recordings_come_in_pages(self) -> None:
        """Many recordings come on several pages."""
        (entry,) = [(key, data) for key, data in record(1).objects.items() if "catalogue" in key]
        for number in range(ROWS_PER_PAGE + 1):
            id = RecordingId("live", "test", f"20260101T00{number:04d}Z")
            self.server.storage.put(id.catalogue_key, entry[1].replace(b"20260101T000000Z", id.start.encode()), "", "")
        first, second = self.page(), self.page("/recordings?page=1")
        self.assertIn('href="?page=1"', first)
        self.assertNotIn("?page=-1", first)
        self.assertIn('href="?page=0"', second)
        self.assertEqual((ROWS_PER_PAGE, 1), (first.count("<li>"), second.count("<li>")))

    def test_page_is_made_once(self) -> None:
        """A page is made once, and anew when the catalogue has changed."""
        store_into(self.server.storage, record())
        first = self.page()
        self.patch(page, "_row", lambda *_, **__: "<li>another</li>")
        self.assertEqual(first, self.page())
        store_into(self.server.storage, record(4, stream=StreamName("live", "other")))
        self.assertIn("another", self.page())

    def test_growing_is_made_anew(self) -> None:
        """A page with a recording that grows is made for each request."""
        store_into(self.server.storage, record(4, finish=False))
        self.page()
        self.patch(page, "_row", lambda *_, **__: "<li>another</li>")
        self.assertIn("another", self.page())

    def test_durations_and_sizes_in_words(self) -> None:
        """Durations and sizes are written as players and file managers write them."""
        self.assertEqual(("0:07", "1:02:03"), (render_clock(7_900), render_clock(3_723_000)))
        sizes = (12, 2_000, 3_450_000, 7 * 10**9)
        self.assertEqual(["12 bytes", "2.0 kB", "3.5 MB", "7.0 GB"], list(map(render_bytes, sizes)))
