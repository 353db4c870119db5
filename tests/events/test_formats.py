from __future__ import annotations

import json
from urllib.parse import parse_qs

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.events.formats import FORMATS
from rapidrtmp.events.values import describe_event
from rapidrtmp.interfaces import Event, EventType
from rapidrtmp.names import StreamName

NAME = StreamName("live", "k")
PUBLISH = Event(7, 1_000, EventType.PUBLISH, NAME, "192.0.2.1", {"session": "abc", "client": "FMLE/3.0"})
UNPUBLISH = Event(9, 1_000, EventType.UNPUBLISH, NAME, "192.0.2.1", {"session": "abc"})
RECORDED = Event(8, 1_000, EventType.RECORDING_DONE, NAME, "", {"movieUrl": "/recordings/live/k/x/recording.mp4"})


class FormatTests(SynchronousTestCase):
    def test_json_is_that_of_the_api(self) -> None:
        """What is posted is what the API tells."""
        body = FORMATS["json"].render(PUBLISH)
        self.assertEqual(("application/json", describe_event(PUBLISH)), (body.content_type, json.loads(body.data)))

    def test_nginx_rtmp_form_is_known(self) -> None:
        """A backend for nginx-rtmp gets the form that it knows."""
        body = FORMATS["nginx-rtmp"].render(PUBLISH)
        self.assertEqual("application/x-www-form-urlencoded", body.content_type)
        fields = {name: value for name, (value,) in parse_qs(body.data.decode(), keep_blank_values=True).items()}
        expected = {"call": "publish", "app": "live", "name": "k", "addr": "192.0.2.1", "clientid": "abc"}
        self.assertEqual(expected, {name: fields[name] for name in expected})
        self.assertEqual(("live", "FMLE/3.0", ""), (fields["type"], fields["flashver"], fields["tcurl"]))
        done = parse_qs(FORMATS["nginx-rtmp"].render(RECORDED).data.decode())
        self.assertEqual((["record_done"], ["/recordings/live/k/x/recording.mp4"]), (done["call"], done["path"]))

    def test_srs_json_is_known(self) -> None:
        """A backend for SRS gets the JSON that it knows, and one client for a publisher's coming and going."""
        first, last = (json.loads(FORMATS["srs"].render(each).data) for each in (PUBLISH, UNPUBLISH))
        self.assertEqual(("on_publish", "on_unpublish"), (first["action"], last["action"]))
        self.assertEqual(
            ("192.0.2.1", "live", "k", "/live/k"), tuple(first[x] for x in ("ip", "app", "stream", "stream_url"))
        )
        self.assertEqual("abc", first["client_id"])
        self.assertEqual(first["client_id"], last["client_id"])
        self.assertEqual("on_dvr", json.loads(FORMATS["srs"].render(RECORDED).data)["action"])

    def test_other_events_keep_their_names(self) -> None:
        """What those servers have no name for keeps its own, and is not sent unless it is asked for."""
        storage = Event(8, 1_000, EventType.STORAGE, None)
        self.assertIn(b"call=storage", FORMATS["nginx-rtmp"].render(storage).data)
        self.assertEqual("on_storage", json.loads(FORMATS["srs"].render(storage).data)["action"])
        for name in ("nginx-rtmp", "srs"):
            types = FORMATS[name].types
            assert types is not None
            self.assertNotIn(EventType.STORAGE, types)
