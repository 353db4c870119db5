import tomllib
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.settings.model import AppSettings, Settings, all_settings, read_field
from rapidrtmp.settings.sources import Loaded, load_settings
from tests.settings.samples import another_value


class LoadTestCase(SynchronousTestCase):
    def load(
        self, toml: str | None = None, options: dict[str, str | list[str]] | None = None, **environment: str
    ) -> Loaded:
        """Settings of a file that holds ``toml``, ``options`` and an environment."""
        if toml is None:
            return load_settings(options or {}, environment)
        self.path = self.mktemp()
        Path(self.path).write_text(toml, "utf-8")
        return load_settings(options or {}, environment, self.path)

    def refusal(self, toml: str | None = None, **environment: str) -> str:
        """The one line that such settings are refused with."""
        line = str(self.assertRaises(ConfigurationError, self.load, toml, **environment))
        self.assertNotIn("\n", line)
        return line


class LoadTests(LoadTestCase):
    def test_nothing_said_means_defaults(self) -> None:
        """With nothing said everything is as by default, and says so."""
        loaded = self.load()
        self.assertEqual(Settings(), loaded.settings)
        self.assertEqual({"default"}, {loaded.provenance[row.name] for row in all_settings()})
        self.assertEqual("as server.sinks", loaded.provenance["apps.live.sinks"])

    def test_strongest_source_comes_first(self) -> None:
        """The command line beats the environment, today's name an old one, that the file, and the file the default."""
        toml = '[server]\nhttp = "tcp:1"'
        said = {"HTTP_ADDR": ":2", "RAPIDRTMP_SERVER_HTTP": "tcp:3"}
        for options, environment, expected, source in (
            ({}, {}, "tcp:1", ""),
            ({}, {"HTTP_ADDR": ":2"}, "tcp:2", "environment HTTP_ADDR"),
            ({}, said, "tcp:3", "environment RAPIDRTMP_SERVER_HTTP"),
            ({"http": ["tcp:4", "tcp:5"]}, said, "tcp:4", "--http"),
        ):
            loaded = self.load(toml, options, **environment)
            self.assertEqual(expected, loaded.settings.server.http[0])
            self.assertEqual(source or self.path, loaded.provenance["server.http"])

    def test_every_old_name_acts(self) -> None:
        """Every name that existing deployments set has its effect."""
        settings = self.load(
            HTTP_ADDR="127.0.0.1:8081",
            RTMP_ADDR=":1936",
            RTMP_INGEST_ADDR="rtmp://live.example.org:1935",
            STORAGE_TYPE="gcs",
            STORAGE_DIR="./ignored",
            GCS_PROJECT_ID="project",
            GCS_BUCKET_NAME="bucket",
            GCS_BASE_DIR="streams/",
            HLS_SEGMENT_DURATION="4s",
            HLS_MAX_SEGMENTS="6",
            DEFAULT_TOKEN_EXPIRATION="30m",
            MAX_TOKEN_EXPIRATION="48h",
            MAX_CONCURRENT_STREAMS="7",
            MAX_VIEWERS_PER_STREAM="70",
        ).settings
        self.assertEqual(("tcp:8081:interface=127.0.0.1",), settings.server.http)
        self.assertEqual(("tcp:1936",), settings.server.rtmp)
        self.assertEqual("live.example.org:1935", settings.server.public_rtmp)
        self.assertEqual("gcs:bucket:prefix=streams:project=project", settings.storage.spec)
        self.assertEqual((4000, 6), (settings.hls.segment_ms, settings.hls.window))
        self.assertEqual((1800, 172800), (settings.tokens.default_expiration_s, settings.tokens.max_expiration_s))
        self.assertEqual((7, 70), (settings.server.max_streams, settings.server.max_viewers_per_stream))
        self.assertEqual(70, settings.apps["live"].max_viewers_per_stream)

    def test_old_storage_names(self) -> None:
        """STORAGE_TYPE is local when it is not said, and a directory's colon is escaped."""
        for environment, spec in (
            ({"STORAGE_DIR": "/srv/a:b"}, r"local:/srv/a\:b"),
            ({"STORAGE_TYPE": "local"}, "local:data/streams"),
            ({"STORAGE_TYPE": "memory"}, "memory:"),
            ({"GCS_BUCKET_NAME": "unused"}, "local:data/streams"),
            ({"STORAGE_TYPE": "gcs", "GCS_BUCKET_NAME": "b"}, "gcs:b"),
        ):
            self.assertEqual(spec, self.load(**environment).settings.storage.spec)

    def test_old_storage_refusals(self) -> None:
        """An unknown storage type, or a bucket without a name, stops the start."""
        self.assertIn("local, gcs or memory", self.refusal(STORAGE_TYPE="s3"))
        self.assertIn("GCS_BUCKET_NAME", self.refusal(STORAGE_TYPE="gcs"))

    def test_every_key_acts_from_the_environment(self) -> None:
        """Every setting can be given as RAPIDRTMP_SECTION_KEY, and the value arrives in its field."""
        for row in all_settings():
            loaded = self.load(**{row.environment_name: another_value(row)})
            value = read_field(getattr(loaded.settings, row.section), row.field_name)
            self.assertNotEqual(row.default, value, row.name)
            self.assertEqual(f"environment {row.environment_name}", loaded.provenance[row.name])

    def test_aliases_are_path_and_application(self) -> None:
        """An alias is a path and an application; anything else is said to be none."""
        settings = self.load("[rtmp]\napp_aliases = ['live/room7=rooms', 'old=live']\n").settings
        self.assertEqual(("live/room7=rooms", "old=live"), settings.rtmp.app_aliases)
        for text in ("77", "=live", "old=", "/=live"):
            with self.assertRaisesRegex(ConfigurationError, "is not PATH=APP"):
                self.load(RAPIDRTMP_RTMP_APP_ALIASES=text)

    def test_empty_is_unsaid(self) -> None:
        """A variable that is set but empty means nothing."""
        self.assertEqual(Settings(), self.load(HTTP_ADDR="", RAPIDRTMP_HLS_SEGMENT="", STORAGE_TYPE="").settings)

    def test_toml_values_by_type(self) -> None:
        """In TOML numbers, truths and lists are written as such, or as text."""
        settings = self.load(
            "[server]\nrtmp = ['tcp:1', 'ssl:2:privateKey=k:certKey=c']\nmetrics_stream_labels = true\n"
            "[hls]\nsegment = 4\npart = 0.5\nwindow = 6\n[storage]\nqueue = 1048576\n[live]\ngrace = '5s'\n"
        ).settings
        self.assertEqual(("tcp:1", "ssl:2:privateKey=k:certKey=c"), settings.server.rtmp)
        self.assertIs(True, settings.server.metrics_stream_labels)
        self.assertEqual((4000, 500, 6), (settings.hls.segment_ms, settings.hls.part_ms, settings.hls.window))
        self.assertEqual(1048576, settings.storage.queue_bytes)
        self.assertEqual(5000, settings.apps["live"].grace_ms)


class RefusalTests(LoadTestCase):
    def test_connection_limits_have_bounds(self) -> None:
        """The bounds on HTTP connections go down to one, and to none for a client; ``auto`` leaves the first open."""
        for text, expected in (('"auto"', None), ("1", 1), ("70000", 70_000)):
            self.assertEqual(expected, self.load(f"[http]\nmax_connections = {text}").settings.http.max_connections)
        self.assertEqual(
            0, self.load("[http]\nmax_connections_per_client = 0").settings.http.limits.max_connections_per_client
        )
        for text in ("0", "-1", '"many"', '""'):
            line = self.refusal(f"[http]\nmax_connections = {text}")
            self.assertIn("not a whole number, 1 or more, or auto", line)

    def test_unknown_environment_name(self) -> None:
        """An unknown RAPIDRTMP_ name stops the start and names its neighbour."""
        line = self.refusal(RAPIDRTMP_HLS_SEGMNT="2s")
        self.assertIn("RAPIDRTMP_HLS_SEGMNT", line)
        self.assertIn("did you mean RAPIDRTMP_HLS_SEGMENT?", line)

    def test_foreign_environment_is_ignored(self) -> None:
        """What Kubernetes sets beside a Service called rapidrtmp, or a build, is not taken for a misspelled setting."""
        self.load(
            RAPIDRTMP_COMPILE="1",
            RAPIDRTMP_SERVICE_HOST="10.0.0.1",
            RAPIDRTMP_SERVICE_PORT="8080",
            RAPIDRTMP_SERVICE_PORT_HTTP="8080",
            RAPIDRTMP_HTTP_SERVICE_HOST="10.0.0.1",
            RAPIDRTMP_PORT="tcp://10.0.0.1:8080",
            RAPIDRTMP_PORT_8080_TCP="tcp://10.0.0.1:8080",
            RAPIDRTMP_PORT_8080_TCP_ADDR="10.0.0.1",
        )
        self.assertIn("RAPIDRTMP_HTTP_PORT", self.refusal(RAPIDRTMP_HTTP_PORT="8080"))

    def test_unknown_toml_names(self) -> None:
        """An unknown section or key stops the start and names the file and its neighbour."""
        self.assertIn("did you mean hls?", self.refusal("[hsl]\n"))
        line = self.refusal("[hls]\nsegmnt = 2\n")
        self.assertIn("did you mean segment?", line)
        self.assertIn(self.path, line)
        self.assertIn("known are", self.refusal("[zzzzzz]\n"))
        self.assertIn("[hls]", self.refusal("hls = 3\n"))
        self.assertIn("did you mean sinks?", self.refusal("[apps.radio]\nsink = 'hls'\n"))
        self.assertIn("[apps.live]", self.refusal("[apps]\nlive = 'x'\n"))

    def test_bad_values_stop_the_start(self) -> None:
        """A bad value stops the start with its setting, its source and what would be right."""
        for environment, words in (
            ({"HLS_SEGMENT_DURATION": "2x"}, ("hls.segment", "environment HLS_SEGMENT_DURATION", "'2x'", "500ms")),
            ({"HTTP_ADDR": "8080"}, ("server.http", "environment HTTP_ADDR", ":8080")),
            ({"RAPIDRTMP_SERVER_RTMP": ":1935"}, ("server.rtmp", "tcp:1935")),
            ({"RAPIDRTMP_SERVER_RTMP": "tcp"}, ("server.rtmp", "tcp:1935")),
            ({"RAPIDRTMP_SERVER_RTMP": " "}, ("server.rtmp", "at least one")),
            ({"RAPIDRTMP_HLS_WINDOW": "2"}, ("hls.window", "3 or more")),
            ({"RAPIDRTMP_SERVER_METRICS_STREAM_LABELS": "maybe"}, ("neither true nor false",)),
            ({"RAPIDRTMP_SERVER_LOG_FORMAT": "xml"}, ("text or json",)),
            ({"RTMP_INGEST_ADDR": ":1935"}, ("HOST:PORT",)),
            ({"RAPIDRTMP_SERVER_SINKS": ":"}, ("server.sinks", "begins with a name")),
        ):
            line = self.refusal(**environment)
            for word in words:
                self.assertIn(word, line)

    def test_bad_toml_stops_the_start(self) -> None:
        """A file that is missing, is no TOML or holds the wrong type stops the start with one line."""
        missing = self.mktemp()
        self.assertIn(missing, str(self.assertRaises(ConfigurationError, load_settings, {}, {}, missing)))
        self.assertIn("not TOML", self.refusal("[hls\n"))
        self.assertIn("list where one value belongs", self.refusal("[hls]\nsegment = [2]\n"))
        self.assertIn("dict where text", self.refusal("[server.sinks]\na = 1\n"))

    def test_values_that_do_not_go_together(self) -> None:
        """Values that exclude each other stop the start with both, and their sources."""
        line = self.refusal(DEFAULT_TOKEN_EXPIRATION="48h")
        for word in ("tokens.default_expiration", "48h", "DEFAULT_TOKEN_EXPIRATION", "tokens.max_expiration", "24h"):
            self.assertIn(word, line)
        self.assertIn("hls.part", self.refusal("[hls]\npart = 3\n"))

    def test_bad_application_names(self) -> None:
        """An application whose name could not be published to stops the start."""
        self.assertIn("[apps.api]", self.refusal("[apps.api]\n"))
        self.assertIn("[apps.a/b]", self.refusal("[apps.'a/b']\n"))


class AppTests(LoadTestCase):
    def test_inheritance_of_all_settings(self) -> None:
        """An application has what its table says, and for the rest what holds for all; `live` is always there."""
        loaded = self.load(
            "[server]\nsinks = ['hls', 'hls:window=5']\nmax_streams = 9\n"
            "[apps.radio]\nauth = 'open'\ngrace = '9s'\nmax_streams = 2\n"
        )
        sinks = ("hls", "hls:window=5")
        self.assertEqual(
            {
                "live": AppSettings(sinks=sinks, max_streams=9),
                "radio": AppSettings(sinks=sinks, auth=("open",), grace_ms=9000, max_streams=2),
            },
            loaded.settings.apps,
        )
        self.assertEqual(self.path, loaded.provenance["apps.radio.auth"])
        self.assertEqual("as server.sinks", loaded.provenance["apps.radio.sinks"])


class AppStorageTests(LoadTestCase):
    def stored(self, toml: str, **environment: str) -> tuple[str, ...]:
        """Where `radio` leaves its files, where its recordings, and where each of these comes from."""
        loaded = self.load(toml, **environment)
        radio = loaded.settings.apps["radio"]
        sources = (loaded.provenance[f"apps.radio.{key}"] for key in ("storage", "recordings"))
        return radio.storage, radio.recordings, *sources

    def test_order_of_storage_settings(self) -> None:
        """What an application says of itself goes before what holds for all, its storage for its recordings too."""
        general = "[storage]\nspec = 'local:a'\n"
        apart = f"{general}recordings = 'local:b'\n"
        radio, storage, recordings = "[apps.radio]\n", "storage = 'local:c'\n", "recordings = 'local:d'\n"
        for toml, expected in (
            (general + radio, ("local:a", "local:a", "as storage.spec", "as storage.spec")),
            (apart + radio, ("local:a", "local:b", "as storage.spec", "as storage.recordings")),
            (apart + radio + storage, ("local:c", "local:c", "FILE", "as apps.radio.storage")),
            (apart + radio + recordings, ("local:a", "local:d", "as storage.spec", "FILE")),
            (apart + radio + storage + recordings, ("local:c", "local:d", "FILE", "FILE")),
        ):
            found = self.stored(toml)
            self.assertEqual(tuple(self.path if each == "FILE" else each for each in expected), found, toml)

    def test_environment_reaches_applications(self) -> None:
        """What the environment says of the storage holds for an application that says nothing."""
        self.assertEqual("local:/srv", self.stored("[apps.radio]\n", STORAGE_DIR="/srv")[1])

    def test_rendered_settings_read_back(self) -> None:
        """What is printed reads back as the same, and shows no secret."""
        loaded = self.load("[storage]\nrecordings = 'memory:'\n[apps.radio]\nstorage = 'local:a\\:b'\n")
        printed = loaded.render()
        self.assertRegex(printed, r"(?m)^recordings = 'local:a\\:b' +# as apps\.radio\.storage$")
        self.assertEqual(loaded.settings, self.load(printed).settings)
        self.assertNotIn("hidden", self.load("[apps.radio]\nstorage = 'x:secret=hidden'\n").render())

    def test_refused_storage_stops_the_start(self) -> None:
        """A storage that is no spec stops the start, with its application."""
        self.assertIn("apps.radio.storage", self.refusal("[apps.radio]\nstorage = ':'\n"))
        self.assertIn("apps.radio.recordings", self.refusal("[apps.radio]\nrecordings = ''\n"))


class RenderTests(LoadTestCase):
    def test_is_toml_that_means_the_same(self) -> None:
        """What `--check-config` prints is a configuration file with the same meaning."""
        toml = "[apps.radio]\nauth = 'open'\n[server]\nsinks = ['hls:a=x\\:y', 'hls']\n"
        loaded = self.load(toml, HTTP_ADDR=":81", STORAGE_DIR="/srv/a:b")
        self.assertEqual(loaded.settings, self.load(loaded.render()).settings)

    def test_sources_end_each_line(self) -> None:
        """Each line ends in where its value came from."""
        lines = self.load(HTTP_ADDR=":81").render().splitlines()
        self.assertIn("# environment HTTP_ADDR", next(line for line in lines if line.startswith("http = ")))
        self.assertIn("# default", next(line for line in lines if line.startswith("rtmp = ")))

    def test_secrets_are_not_shown(self) -> None:
        """No secret is shown."""
        loaded = self.load(
            RAPIDRTMP_SERVER_API_TOKEN="hidden", RAPIDRTMP_SERVER_AUTH="token:secret=hidden-hidden-hidden"
        )
        self.assertNotIn("hidden", loaded.render())
        self.assertEqual("***", tomllib.loads(loaded.render())["server"]["api_token"])
        self.assertEqual("hidden", loaded.settings.server.api_token)


class HookTests(LoadTestCase):
    """Tables ``[[hooks]]``."""

    def hooks(self, *tables: str) -> Loaded:
        return self.load("".join(f"[[hooks]]\n{table}\n" for table in tables))

    def test_values_of_each_hook(self) -> None:
        """Each table is one hook, in the order of the file."""
        first, second = self.hooks(
            'url = "https://example.com/x"\nevents = ["publish", "stop"]\n'
            'secret_file = "s"\nformat = "srs"\ntimeout = "2s"',
            'exec = ["/bin/tell", "with space"]\nattempts = 3',
        ).settings.hooks
        self.assertEqual(
            ("https://example.com/x", ("publish", "stop"), "s", "srs"),
            (first.url, first.events, first.secret_file, first.format),
        )
        self.assertEqual((2_000, 8, ()), (first.timeout_ms, first.attempts, first.exec))
        self.assertEqual((("/bin/tell", "with space"), 3, ""), (second.exec, second.attempts, second.url))
        self.assertEqual((), self.load().settings.hooks)

    def test_refused_hook_stops_the_start(self) -> None:
        """What makes no sense stops the start with the hook, the key and what would be right."""
        for table, words in (
            ("", "either url or exec"),
            ('url = "https://a/"\nexec = ["b"]', "either url or exec"),
            ('url = "ftp://a/"', "hooks.1.url"),
            ('url = "https://a b/"', "is not a URL"),
            ('url = "https://a/"\nevents = ["publishing"]', "first_segment"),
            ('url = "https://a/"\nformat = "xml"', "nginx-rtmp"),
            ('url = "https://a/"\ntimeout = "0s"', "more than 0"),
            ('url = "https://a/"\nattempts = 0', "1 or more"),
            ('url = "https://a/"\nevent = ["publish"]', "did you mean events?"),
            ('exec = ["a"]\nsecret_file = "s"', "belong to a url"),
        ):
            self.assertIn(words, self.refusal(f"[[hooks]]\n{table}\n"), table)
        self.assertIn("write [[hooks]]", self.refusal('[hooks]\nurl = "https://a/"\n'))

    def test_shown_hook_reads_back(self) -> None:
        """What is shown of a hook reads back, but for the secrets in its URL."""
        loaded = self.hooks('url = "https://me:passphrase@example.com/x?token=t"', 'exec = ["/bin/tell", "it"]')
        text = loaded.render()
        for secret in ("passphrase", "token=t"):
            self.assertNotIn(secret, text)
            self.assertNotIn(secret, repr(loaded.settings))
        self.assertIn('[[hooks]]\nurl = "https://***@example.com/x?***"', text)
        self.assertIn('exec = ["/bin/tell", "it"]', text)
