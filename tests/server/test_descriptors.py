"""How descriptors are shared out."""

from __future__ import annotations

import resource

from twisted.trial.unittest import SynchronousTestCase

from rapidrtmp.server.descriptors import RESERVED, raise_descriptor_limit, share_descriptors


class SharesTests(SynchronousTestCase):
    """Connections never take what files need, and neither kind what the other needs."""

    def test_plenty_leaves_the_settings(self) -> None:
        """Where there are plenty, the settings hold."""
        self.assertEqual((1000, 20_000, False), share_descriptors(1 << 20, 1000, None))
        self.assertEqual((1000, 50_000, False), share_descriptors(1 << 20, 1000, 50_000))

    def test_few_descriptors_are_shared(self) -> None:
        """Where there are few, some are kept back, RTMP gets a third of the rest at most, and HTTP what is left."""
        shares = share_descriptors(1024, 1000, None)
        self.assertEqual((298, 598, True), shares)
        self.assertEqual(1024, shares.rtmp + shares.http + RESERVED)
        self.assertEqual((100, 796, True), share_descriptors(1024, 100, None))
        self.assertEqual((100, 50, False), share_descriptors(1024, 100, 50))

    def test_very_few_still_serve(self) -> None:
        """However few there are, a publisher and a viewer find room."""
        for limit in range(1, 300):
            rtmp, http, is_low = share_descriptors(limit, 1000, None)
            self.assertTrue(rtmp >= 1 and http >= 1 and is_low, limit)
            self.assertTrue(rtmp + http <= max(limit, 2), limit)


class RaisingTests(SynchronousTestCase):
    """The limit of the process."""

    def test_limit_is_raised_to_hard(self) -> None:
        """The soft limit becomes the hard one."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 300), hard))
        limit = raise_descriptor_limit()
        self.assertEqual(limit, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        self.assertEqual(limit, min(hard, 1 << 20) if hard != resource.RLIM_INFINITY else limit)

    def test_limit_that_cannot_be_raised(self) -> None:
        """Where it cannot be raised, it is what it was."""
        for error in (OSError, ValueError):

            def refuse(*_: object, error: type[Exception] = error) -> None:
                raise error

            self.patch(resource, "setrlimit", refuse)
            for soft, hard in ((200, 200), (200, 1000)):
                self.patch(resource, "getrlimit", lambda _, soft=soft, hard=hard: (soft, hard))
                self.assertEqual(200, raise_descriptor_limit())
