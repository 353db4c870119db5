"""The test suite; one Hypothesis profile for all of it, so that a run can be repeated exactly."""

from hypothesis import settings

settings.register_profile("rapidrtmp", derandomize=True, deadline=None)
settings.load_profile("rapidrtmp")
