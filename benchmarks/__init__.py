"""Commands that measure: one each, results as a table and as JSON. See ``docs/performance.md`` and ``RESULTS.md``."""
