"""Tests of `rapidrtmp.play`."""
