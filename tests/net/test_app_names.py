"""Which application a path means."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.errors import ConfigurationError
from rapidrtmp.net.app_names import AppNames


class AppNamesTests(SynchronousTestCase):
    """Names, instances and aliases."""

    def test_instances_mean_their_application(self) -> None:
        """A path means the application by its first segment; another path means none."""
        names = AppNames({"live", "rooms"})
        found = [names.find(path) for path in ("live", "live/0", "live/a/b", "rooms/7", "other", "other/live", "")]
        self.assertEqual(["live", "live", "live", "rooms", None, None, None], found)

    def test_aliases_count_before_names(self) -> None:
        """An alias of the whole path counts first, then one of its first segment, then the names themselves."""
        names = AppNames({"live", "rooms"}, ["live/room7=rooms", "/old/=live"])
        found = [names.find(path) for path in ("live/room7", "live/room8", "old", "old/0", "live/room7/x")]
        self.assertEqual(["rooms", "live", "live", "live", "live"], found)

    def test_unknown_application_stops_the_start(self) -> None:
        """An alias for an application that is not there stops the start, and says which there are."""
        with self.assertRaisesRegex(ConfigurationError, "'x=other' names no application: there is live, rooms"):
            AppNames({"live", "rooms"}, ["x=other"])
