import re

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.hls.multivariant import REWIND_DATA
from rapidrtmp.http import hlsjs
from rapidrtmp.http import pages as http_pages
from rapidrtmp.interfaces import Request, Response
from rapidrtmp.web.pages import Pages
from tests.web.kit import Server, open_admission


class PlayerPageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def test_every_stream_has_a_page(self) -> None:
        """Every stream has a page that knows where its playlists are, also before it is live."""
        reply = self.server.get("/live/my-show", peer="192.0.2.1")
        self.assertEqual((200, "text/html; charset=utf-8"), (reply.status, reply.headers["content-type"]))
        self.assertIn('data-multivariant="my-show/master.m3u8"', reply.text())
        self.assertIn('data-media="my-show/index.m3u8"', reply.text())
        self.assertIn('data-notice="my-show/notice.json"', reply.text())
        self.assertIn("my-show", re.findall("<title>(.*?)</title>", reply.text())[0])

    def test_rewinding_is_on_the_page(self) -> None:
        """The page knows where the rewind window is and where clips are made, and shows nothing of it by itself."""
        page = self.server.get("/live/my-show").text()
        self.assertIn('data-rewind="my-show/dvr.m3u8"', page)
        self.assertIn('data-clip="my-show/clip.mp4"', page)
        self.assertRegex(page, '<section id="timeline" aria-label="Timeline" hidden>')
        self.assertRegex(page, '<input id="seek" type="range"[^>]* aria-label=')
        self.assertRegex(page, '<button id="back"[^>]* aria-label=')
        self.assertRegex(page, '<button id="golive"[^>]*>Live</button>')

    def test_scripts_find_what_they_import(self) -> None:
        """What scripts import is there, and names the data of the session as the playlist does."""
        names = ["player.js", "library.js"]
        texts: dict[str, str] = {}
        for name in names:
            reply = self.server.get(f"/static/{name}")
            self.assertEqual(200, reply.status, name)
            texts[name] = reply.text()
            found = re.findall(r'^import .* from "\./(.+)";$', texts[name], re.M)
            names += [each for each in found if each not in names]
        self.assertIn("window.js", names)
        self.assertIn(f'"{REWIND_DATA}"', texts["window.js"])

    def test_redirects_lead_to_playlist_and_page(self) -> None:
        """What other servers name the playlist leads to it, and a slash too many to the page; the query is kept."""
        for path, location in (
            ("/live/k.m3u8", "k/index.m3u8"),
            ("/live/a.b.m3u8?x=1&y=%20", "a.b/index.m3u8?x=1&y=%20"),
            ("/live/k/", "../k"),
            ("/live/k/?x=1", "../k?x=1"),
        ):
            for method in ("GET", "HEAD"):
                reply = self.server.request(method, path, peer="192.0.2.1")
                self.assertEqual((307, location), (reply.status, reply.headers["location"]), path)
        self.assertEqual("*", self.server.get("/live/k.m3u8").headers["access-control-allow-origin"])

    def test_no_such_redirect(self) -> None:
        """Nothing leads to what cannot be a stream."""
        for path in ("/live/.m3u8", "/live/.x.m3u8", "/live/%0d%0a.m3u8", "/live/.x/", "/live/" + "k" * 129 + "/"):
            self.assertEqual(400, self.server.get(path).status, path)

    def test_no_such_page(self) -> None:
        """There is no page for what cannot be a stream, or an application that there is not."""
        for path, status in (("/live/.x", 400), ("/live/" + "k" * 129, 400), ("/nowhere/k", 404), ("/api/k", 404)):
            self.assertEqual(status, self.server.get(path).status, path)

    def test_no_such_page_for_people(self) -> None:
        """Browsers are shown that as a page, with a way on; programs get it as JSON."""
        for path, status, words, root in (
            ("/live/.x", 400, "stream key may hold", "../"),
            ("/nowhere/k", 404, "no application", "../"),
            ("/live", 404, "here is nothing here", "./"),
            ("/anything", 404, "here is nothing here", "./"),
            ("/a/b/c/d", 404, "here is nothing here", "../../../"),
            ("/live/k/none.m4s", 404, "has no publisher", "../../"),
            ("/recordings/live/k/20260101T000000Z/index.m3u8", 404, "", "../../../../"),
            ("/static/none", 404, "no such file", "../"),
            ("/%ff", 400, "not readable", "./"),
        ):
            shown = self.server.get(path, Accept="text/html,*/*;q=0.8")
            self.assertEqual((status, "text/html; charset=utf-8"), (shown.status, shown.headers["content-type"]), path)
            self.assertIn(words, shown.text())
            self.assertIn(f'href="{root}"', shown.text())
            self.assertIn(f'href="{root}static/style.css"', shown.text())
            self.assertEqual("no-store", shown.headers["cache-control"])
            self.assertIn(words, self.server.get(path).json()["error"])
        self.assertIn("error", self.server.get("/api/v1/none", Accept="text/html").json())
        self.assertNotIn("<b>", self.server.get("/<b>/k", Accept="text/html").text())

    def test_nothing_runs_but_our_files(self) -> None:
        """The page holds no script and no style of its own, and its policy would let none run."""
        reply = self.server.get("/live/k")
        policy = reply.headers["content-security-policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        self.assertNotIn("*", policy)
        for tag, inside in re.findall(r"<(script|style)\b[^>]*>(.*?)</\1>", reply.text(), re.DOTALL):
            self.assertEqual("", inside, tag)
        self.assertNotRegex(reply.text(), r"\son[a-z]+=|style=|javascript:")

    def test_everything_named_is_there(self) -> None:
        """All that the pages load from here can be had, relative to the page as browsers see it."""
        for page, base in (("/live/k", "/live/"), ("/", "/"), ("/recordings", "/")):
            for url in re.findall(r'(?:src|href)="([^"#]+)"', self.server.get(page).text()):
                if not url.startswith("https://"):
                    path = (base + url).replace("/live/../", "/").replace("/./", "/")
                    self.assertEqual(200, self.server.get(path).status, path)

    def test_library_from_the_package(self) -> None:
        """If the build brought the player library along, it comes from here and from nowhere else."""
        pages = Pages(self.server.registry, {"live": None}, self.server.clock, open_admission(self.server))
        self.patch(http_pages, "has_own_player_library", lambda: True)
        response = pages.player(Request("GET", "", {}, "192.0.2.1", "192.0.2.1"), "live", "k")
        assert isinstance(response, Response)
        self.assertIn(f'src="../static/{hlsjs.FILE_NAME}"', response.body.decode())
        self.assertIn("script-src 'self';", response.headers["Content-Security-Policy"])

    def test_library_from_elsewhere(self) -> None:
        """If not, it comes from the one pinned place, held to its hash."""
        pages = Pages(self.server.registry, {"live": None}, self.server.clock, open_admission(self.server))
        self.patch(http_pages, "has_own_player_library", lambda: False)
        response = pages.player(Request("GET", "", {}, "192.0.2.1", "192.0.2.1"), "live", "k")
        assert isinstance(response, Response)
        self.assertIn(f'src="{hlsjs.CDN_URL}" integrity="{hlsjs.INTEGRITY}" crossorigin', response.body.decode())
        self.assertIn(f"script-src 'self' {hlsjs.CDN_URL};", response.headers["Content-Security-Policy"])

    def test_labels_name_every_control(self) -> None:
        """The page can be used without seeing it: the picture, the state and the figures have names."""
        page = self.server.get("/live/k").text()
        for expected in (
            'lang="en"',
            'role="status"',
            'aria-live="polite"',
            "<video",
            "aria-label=",
            "viewport",
            "<noscript>",
        ):
            self.assertIn(expected, page)


class EmbedTests(SynchronousTestCase):
    def test_embed_is_shown_in_frames(self) -> None:
        """The player alone may be framed by any page, and is the page's script on the same media; no other page may."""
        server = Server()
        reply = server.get("/embed/live/my-show?controls=0&muted=1&autoplay=1", peer="192.0.2.1")
        self.assertEqual((200, "text/html; charset=utf-8"), (reply.status, reply.headers["content-type"]))
        self.assertIn("frame-ancestors *", reply.headers["content-security-policy"])
        self.assertNotIn("x-frame-options", reply.headers)
        self.assertIn('data-root="../../" data-multivariant="my-show/master.m3u8"', reply.text())
        self.assertIn('src="../../static/player.js"', reply.text())
        for path in ("/live/my-show", "/", "/recordings", "/obs"):
            shown = server.get(path)
            self.assertIn("frame-ancestors 'none'", shown.headers["content-security-policy"], path)
            self.assertEqual("DENY", shown.headers["x-frame-options"], path)

    def test_no_such_embed(self) -> None:
        """There is none of what cannot be a stream; and a slash too many leads to the one that there is."""
        server = Server()
        for path, status in (("/embed/live/.x", 400), ("/embed/nowhere/k", 404), ("/embed/live", 404)):
            self.assertEqual(status, server.get(path).status, path)
        self.assertEqual("../k?muted=1", server.get("/embed/live/k/?muted=1").headers["location"])


class ViewersTests(SynchronousTestCase):
    def test_page_learns_how_many_watch(self) -> None:
        """The page learns how many watch, also of another origin, and to ask is not to watch."""
        server = Server()
        self.assertEqual(404, server.get("/live/k/viewers.json").status)
        stream = server.live()
        stream.viewers.saw("192.0.2.1", "a", "", int(server.clock.seconds() * 1000))
        for _ in range(2):
            reply = server.get("/live/k/viewers.json", peer="192.0.2.9")
            self.assertEqual(({"viewers": 1}, "*"), (reply.json(), reply.headers["access-control-allow-origin"]))
        self.assertEqual("public, max-age=3", reply.headers["cache-control"])


class IndexPageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def test_nothing_live_is_shown(self) -> None:
        """When nothing is live, the page says so."""
        self.assertIn("Nothing is live", self.server.get("/", peer="192.0.2.1").text())

    def test_page_keeps_itself_up_to_date(self) -> None:
        """The page keeps itself up to date by its script; only without scripts it is loaded anew."""
        page = self.server.get("/").text()
        self.assertIn('<noscript><meta http-equiv="refresh"', page)
        self.assertNotIn(
            "http-equiv", page.replace('<noscript><meta http-equiv="refresh" content="15"></noscript>', "")
        )
        self.assertIn('src="static/index.js"', page)

    def test_live_streams_are_listed(self) -> None:
        """What is live is listed with a link to its page; what has ended is not."""
        self.server.live("one")
        self.server.publish("two", "open")
        self.server.registry.end(self.server.live("over"))
        reply = self.server.get("/")
        self.assertEqual("no-store", reply.headers["cache-control"])
        self.assertEqual(["live/one", "open/two"], re.findall(r'<li><a href="([^"]+)"', reply.text()))
        self.assertIn("live · 1280×720 · 0 viewers", reply.text())
        self.assertIn("starting · 0 viewers", reply.text())

    def test_notice_stands_in_the_list(self) -> None:
        """Why a stream has no picture stands in the list, and where its page looks for it, as long as that is so."""
        stream = self.server.live("one")
        stream.notify_viewers("No picture: <b>")
        self.assertIn("0 viewers · No picture: &lt;b&gt;<", self.server.get("/").text())
        reply = self.server.get("/live/one/notice.json")
        self.assertEqual(({"notice": "No picture: <b>"}, "no-store"), (reply.json(), reply.headers["cache-control"]))
        stream.notify_viewers("")
        self.assertEqual({"notice": ""}, self.server.get("/live/one/notice.json").json())

    def test_one_viewer_in_the_singular(self) -> None:
        """One viewer is one viewer."""
        stream = self.server.live()
        stream.viewers.saw("192.0.2.1", "a", "", int(self.server.clock.seconds() * 1000))
        self.assertIn("· 1 viewer<", self.server.get("/").text())


class StaticTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()

    def test_files_come_as_their_type(self) -> None:
        """Each file comes as what it is, and as nothing else."""
        for name, content_type in (
            ("player.js", "text/javascript; charset=utf-8"),
            ("style.css", "text/css; charset=utf-8"),
            ("icon.svg", "image/svg+xml"),
        ):
            reply = self.server.get(f"/static/{name}")
            self.assertEqual((200, content_type), (reply.status, reply.headers["content-type"]))
            self.assertEqual("nosniff", reply.headers["x-content-type-options"])

    def test_gzip_and_not_modified(self) -> None:
        """Files are compressed for those who accept that, and not sent again to those who have them."""
        plain, packed = (
            self.server.get("/static/player.js"),
            self.server.get("/static/player.js", Accept_Encoding="gzip"),
        )
        self.assertEqual(plain.text(), packed.text())
        self.assertEqual("gzip", packed.headers["content-encoding"])
        self.assertNotEqual(plain.headers["etag"], packed.headers["etag"])
        again = self.server.get("/static/player.js", If_None_Match=plain.headers["etag"])
        self.assertEqual((304, b""), (again.status, again.body))

    def test_templates_are_not_files(self) -> None:
        """What pages are made from is not served as it is."""
        for name in ("player.html", "index.html", "__init__.py", "none"):
            self.assertEqual(404, self.server.get(f"/static/{name}").status, name)

    def test_icon_is_answered_unasked(self) -> None:
        """Browsers that ask for an icon unasked are answered without fuss."""
        self.assertEqual(204, self.server.get("/favicon.ico").status)
