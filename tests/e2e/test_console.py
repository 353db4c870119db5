"""The console in a real browser, by keyboard alone: what an operator sees of a stream, and does with it."""

from __future__ import annotations

from typing import Any

from rapidrtmp.rtmp.events import PublishEnded
from tests.e2e.browser import BrowserTest, check_library, find_browser
from tests.e2e.ffmpeg import FFMPEG
from tests.e2e.harness import Server, eventually
from tests.e2e.players import fetch_package
from tests.e2e.scripted import Script, ScriptedServer
from tests.e2e.test_watching import sizes_and_languages

SETTINGS = '[server]\nsinks = ["hls:segment=1s:dvr=1h", "record"]\n'
AXE = "axe-core"
FINDINGS = """
const done = arguments[arguments.length - 1];
axe.run().then((found) => done(found.violations.map((each) =>
  each.id + ": " + each.nodes.map((node) => node.target + " " + node.failureSummary).join("; "))));
"""
#: Each width, with what its user prefers.
LOOKS = ((1280, "light"), (1280, "dark"), (390, "light"), (390, "dark"))
MOST_TABS = 120


class ConsoleTests(BrowserTest):
    """``/console`` in headless Chromium."""

    def test_operator_sees_and_acts(self) -> None:
        """By keys alone an operator logs in, sees the stream, makes a key, protects and stops; nothing bars the way."""
        paths = find_browser()
        server = self.start_server(SETTINGS)
        check_library(server)
        axe = (fetch_package(AXE, "4") / "axe.min.js").read_text("utf-8")
        publisher = self.publish(FFMPEG, sizes_and_languages(), server.issue_token("show").publish_url)
        browser = self.open_page(paths, f"{server.root}/console")
        self.check_accessible(browser, axe)
        self.write(browser, "wrong\n")
        self.wait_for(browser, "a refusal", "document.getElementById('problem')?.textContent.includes('wrong')")
        self.log_in(browser, server)
        self.check_stream(browser)
        self.check_relays(browser)
        self.check_key(browser, server)
        self.wait_for(browser, "events", "document.getElementById('event-list').textContent.includes('publish')")
        self.wait_for(
            browser, "the configuration", "document.getElementById('configuration').textContent.includes('dvr=1h')"
        )
        self.check_accessible(browser, axe)
        self.check_recordings(browser)
        self.press_button(browser, "Stop live/show")
        self.press_button(browser, "confirm-yes")
        self.wait_for(browser, "it to be gone", "!document.querySelector('.card')")
        eventually("the publisher to be cut off", lambda: publisher.has_ended)
        self.press_button(browser, "Log out")
        self.wait_for(browser, "the login", "document.getElementById('secret')")
        self.assertEqual(
            ["401"], [each.split("status of ")[1][:3] for each in self.complaints(browser)], "the wrong secret"
        )

    def log_in(self, browser: Any, server: Server) -> None:
        secret = (server.folder / "data" / "api.key").read_text().strip()
        server.tokens.append(secret)
        browser.find_element("id", "secret").send_keys(secret + "\n")
        self.wait_for(browser, "the stream", "document.querySelector('.card .health')")

    # ── steps ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def wait_for(self, browser: Any, what: str, condition: str) -> None:
        eventually(what, lambda: browser.execute_script(f"return Boolean({condition})"))

    def write(self, browser: Any, keys: str) -> None:
        from selenium.webdriver import ActionChains

        ActionChains(browser).send_keys(keys).perform()

    def tab_to(self, browser: Any, name: str) -> None:
        """Go from one element to the next until the one of that name has the focus."""
        from selenium.webdriver.common.keys import Keys

        script = (
            "const at = document.activeElement; return at.getAttribute('aria-label') || at.id || at.textContent.trim()"
        )
        for _ in range(MOST_TABS):
            if browser.execute_script(script) == name:
                return
            self.write(browser, Keys.TAB)
        raise AssertionError(f"no way by Tab to {name}")

    def press_button(self, browser: Any, name: str) -> None:
        self.tab_to(browser, name)
        self.write(browser, "\n")

    # ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def check_accessible(self, browser: Any, axe: str) -> None:
        """axe-core finds nothing, and nothing is wider than the window, on phones and desks, in light and dark."""
        for width, scheme in LOOKS:
            browser.set_window_size(width, 900)
            media = [{"name": "prefers-color-scheme", "value": scheme}]
            browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": media})
            browser.execute_script(axe)
            self.assertEqual([], browser.execute_async_script(FINDINGS), (width, scheme))
            self.assertFalse(browser.execute_script("return document.documentElement.scrollWidth > innerWidth"), width)
            self.save_screenshot(browser, f"console-{width}-{scheme}.png")

    def check_stream(self, browser: Any) -> None:
        """The stream has a picture, its health in words, plots, tracks, sinks."""
        self.wait_for(browser, "the picture", "document.querySelector('.card .still').videoWidth === 640")
        self.wait_for(browser, "its health", "document.querySelector('.health').dataset.verdict === 'good'")
        self.tab_to(browser, "More of live/show")
        self.write(browser, " ")
        self.wait_for(browser, "plots", "document.querySelectorAll('.plots path[d^=M]').length === 4")
        said = browser.find_element("css selector", ".card").text
        for words in ("H.264, 640×360", "H.264, 160×90", "AAC", "hls: running", "Bitrate", "Parts late", "Add relay"):
            self.assertIn(words, said)

    def check_relays(self, browser: Any) -> None:
        """A relay is added, and seen at work by the end of its key; it is removed, and ends as it should."""
        target = ScriptedServer(Script())
        self.addCleanup(target.close)
        self.tab_to(browser, "Relay to URL of live/show")
        self.write(browser, f"rtmp://127.0.0.1:{target.port}/app")
        self.tab_to(browser, "Key of the relay of live/show")
        self.write(browser, "secret-key-of-others\n")
        shown = "document.querySelector('.card details').textContent"
        self.wait_for(browser, "the relay", f"/\\/app \\*\\*\\*\\*hers: running/.test({shown})")
        eventually("media", lambda: target.media > 10)
        self.assertNotIn("secret-key", browser.page_source)
        self.press_button(browser, f"Remove the relay to rtmp://127.0.0.1:{target.port}/app")
        eventually("its end", lambda: target.of(PublishEnded))
        self.wait_for(browser, "it to be gone", f"!{shown}.includes('hers: ')")

    def check_key(self, browser: Any, server: Server) -> None:
        """A new key is shown as OBS's two fields and as a code."""
        self.tab_to(browser, "key-name")
        self.write(browser, "phone\n")
        self.wait_for(browser, "the code", "document.querySelector('#key-code svg')")
        values = browser.execute_script(
            "return ['server', 'key'].map((each) => document.getElementById('key-' + each).value)"
        )
        self.assertRegex(values[0], r"^rtmp://127\.0\.0\.1:\d+/live$")
        self.assertRegex(values[1], r"^phone\?token=\S+$")
        server.tokens.append(values[1].split("=")[1])

    def check_recordings(self, browser: Any) -> None:
        """A recording is finished, protected, unprotected and deleted."""
        rows = "document.querySelectorAll('#recording-list tr')"
        self.press_button(browser, "Stop recording live/show")
        self.wait_for(browser, "it to be finished", f"{rows}[0].textContent.includes('finished')")
        for words in ("Protect", "Unprotect"):
            label = browser.execute_script(
                "return [...document.querySelectorAll('#recording-list button')].map((each) => each.ariaLabel)"
                ".find((each) => each.startsWith(arguments[0]))",
                f"{words} ",
            )
            self.press_button(browser, label)
            self.wait_for(
                browser, words, f"{rows}[0].textContent.includes('protected') === {str(words == 'Protect').lower()}"
            )
        self.press_button(browser, label.replace("Unprotect", "Delete"))
        self.press_button(browser, "confirm-yes")
        self.wait_for(browser, "it to be gone", f"!{rows}.length")
