from dataclasses import fields

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.net.limits import ConnectionLimits
from rapidrtmp.rtmp.limits import AmfLimits
from rapidrtmp.settings.model import AppSettings, Settings, all_settings, app_settings, replace_field


class TableTests(SynchronousTestCase):
    def test_defaults_with_nothing_said(self) -> None:
        """With nothing said the server listens on 1935 and 8080, keeps on disk, packages HLS and wants tokens."""
        settings = Settings()
        self.assertEqual(("tcp:1935",), settings.server.rtmp)
        self.assertEqual(("tcp:8080",), settings.server.http)
        self.assertEqual("local:data/streams", settings.storage.spec)
        self.assertEqual({"live": AppSettings(sinks=("hls",), auth=("token",))}, settings.apps)
        self.assertEqual((2000, 10, 333), (settings.hls.segment_ms, settings.hls.window, settings.hls.part_ms))
        self.assertEqual(256 << 20, settings.storage.queue_bytes)
        self.assertIsNone(settings.live.grace_ms)

    def test_every_section_is_in_the_table(self) -> None:
        """Every field of every section is in the table: as a row, or by the limits of an owner that it holds."""
        expected = [
            (section.name, each.name)
            for section in fields(Settings)
            if section.name not in ("apps", "hooks", "sections")
            for each in fields(getattr(Settings, section.name))
        ]
        found = [(row.section, row.field_name.partition(".")[0]) for row in all_settings()]
        self.assertEqual(expected, list(dict.fromkeys(found)))

    def test_limits_are_their_owners(self) -> None:
        """A limit has the default that its owner declares, and what is set reaches the owner's object."""
        rows = {row.name: row for row in all_settings()}
        self.assertEqual(ConnectionLimits().max_connections, rows["rtmp.max_connections"].default)
        self.assertEqual("Connections at once, players apart", rows["rtmp.max_connections"].help)
        depth = rows["rtmp.max_amf_depth"]
        rtmp = replace_field(Settings().rtmp, depth.field_name, 5)
        self.assertEqual((5, AmfLimits().values), (rtmp.session.amf.depth, rtmp.session.amf.values))
        self.assertEqual(16, Settings().rtmp.session.amf.depth)

    def test_names_are_unique(self) -> None:
        """No two settings share a name in the environment or an option."""
        names = [name for row in all_settings() for name in (row.environment_name, *row.old_names)]
        options = [row.option for row in all_settings() if row.option]
        self.assertEqual(sorted(set(names)), sorted(names))
        self.assertEqual(sorted(set(options)), sorted(options))

    def test_defaults_read_back(self) -> None:
        """Every default, as it is shown, is text that its own kind reads as the default."""
        for row in all_settings():
            if row.kind.many:
                again = tuple(row.kind.parse(row.kind.render(item)) for item in row.default)
            else:
                again = row.kind.parse(row.kind.render(row.default))
            self.assertEqual(row.default, again, row.name)

    def test_units_are_in_names(self) -> None:
        """A key has no unit, its field does."""
        by_name = {row.name: row.field_name for row in all_settings()}
        self.assertEqual("segment_ms", by_name["hls.segment"])
        self.assertEqual("queue_bytes", by_name["storage.queue"])
        self.assertEqual("max_expiration_s", by_name["tokens.max_expiration"])

    def test_applications_override_the_rest(self) -> None:
        """Every field of an application overrides a setting of the same name."""
        self.assertEqual(
            {each.name for each in fields(AppSettings)}, {row.field_name for row in app_settings().values()}
        )

    def test_secrets_have_no_repr(self) -> None:
        """Neither the API's secret nor a spec, which may hold one, shows where settings are printed."""
        settings = Settings(apps={"live": AppSettings(auth=("token:secret=hidden-hidden-hidden",))})
        self.assertNotIn("hidden", repr(settings))
        self.assertNotIn("api_token=", repr(settings))
