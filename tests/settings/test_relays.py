"""Relays in the settings: how they are written, what is refused, and how they are shown."""

from __future__ import annotations

import tomllib

from rapidrtmp.interfaces import PullSource, PushTarget
from rapidrtmp.support.secret import reveal
from tests.settings.test_sources import LoadTestCase

KEY = "secret-key-of-theirs-0123"


class RelaySettingsTests(LoadTestCase):
    def test_push_is_a_list_of_tables(self) -> None:
        """Targets are tables, of which only the URL is needed."""
        (first, second) = (
            self.load(
                f"""
            [apps.live]
            push = [
                {{url = "rtmps://one/app", key = "{KEY}", streams = "cam*", rendition = "720p", ca = "ca.pem"}},
                {{url = "rtmp://two/app/k"}},
            ]
            """
            )
            .settings.apps["live"]
            .push
        )
        self.assertEqual(PushTarget("rtmps://one/app", KEY, "", "", "cam*", "720p", "ca.pem"), first)
        self.assertEqual(KEY, reveal(first.key))
        self.assertEqual(PushTarget("rtmp://two/app/k"), second)

    def test_pull_and_origin_are_read(self) -> None:
        """Sources have a name here and URLs elsewhere; origins are URLs of applications."""
        app = self.load(
            """
            [apps.live]
            pull = [{stream = "cam", urls = ["rtmp://one/a/k", "rtmp://two/a/k"], mode = "on demand", hold = "5s"},
                    {stream = "other", urls = "rtmp://one/a/o"}]
            origin = ["rtmp://one/live", "rtmp://two/live"]
            """
        ).settings.apps["live"]
        cam = PullSource("cam", ("rtmp://one/a/k", "rtmp://two/a/k"), on_demand=True, hold_ms=5_000)
        self.assertEqual((cam, PullSource("other", ("rtmp://one/a/o",))), app.pull)
        self.assertEqual(("rtmp://one/live", "rtmp://two/live"), app.origin)

    def test_keys_are_shown_by_their_end(self) -> None:
        """What is shown of the settings is TOML without the secrets in it, and no representation has them."""
        loaded = self.load(
            f"""
            [apps.live]
            push = [{{url = "rtmp://one/app?auth={KEY}", key = "{KEY}"}}, {{url = "rtmp://one/app/{KEY}"}}]
            pull = [{{stream = "cam", urls = ["rtmp://one/a/{KEY}?x=1"]}}]
            origin = ["rtmp://one/live?auth={KEY}"]
            """
        )
        self.assertNotIn(KEY, loaded.render())
        self.assertNotIn(KEY, repr(loaded.settings))
        shown = tomllib.loads(loaded.render())["apps"]["live"]
        self.assertEqual("****0123", shown["push"][0]["key"])
        self.assertEqual("rtmp://one/app/****", shown["push"][1]["url"])

    def test_nonsense_is_refused_unquoted(self) -> None:
        """What cannot be a relay is refused in one line that says what would be right, without the key."""
        for written, said in (
            (f'push = ["{KEY}"]', "not a table"),
            (f'push = [{{key = "{KEY}"}}]', "url"),
            (f'push = [{{url = "http://one/app", key = "{KEY}"}}]', "rtmp://HOST/APP"),
            (f'push = [{{url = "rtmp://one/{KEY}"}}]', "rtmp://HOST/APP/KEY"),
            (f'push = [{{url = "rtmp://one/a", key = "{KEY}", stream = "x"}}]', "no key stream"),
            (f'push = [{{url = "rtmp://one/a", key = "{KEY}", key_file = "x"}}]', "one of them"),
            ('push = [{url = "rtmp://one/a", key = 5}]', "not text"),
            ('pull = [{stream = "a/b", urls = ["rtmp://one/a/k"]}]', "stream"),
            ('pull = [{stream = "a"}]', "urls"),
            ('pull = [{stream = "a", urls = ["rtmp://one/a/k"], mode = "sometimes"}]', "on demand"),
            ('pull = [{stream = "a", urls = ["rtmp://one/a/k"], hold = "x"}]', "duration"),
            ('origin = ["one"]', "rtmp://HOST/APP"),
        ):
            line = self.refusal(f"[apps.live]\n{written}")
            self.assertIn(said, line)
            self.assertNotIn(KEY, line)
