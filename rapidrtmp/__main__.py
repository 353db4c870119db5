"""``python -m rapidrtmp``: the same as the command ``rapidrtmp``."""

from __future__ import annotations

import sys

from rapidrtmp.cli import main

if __name__ == "__main__":
    sys.exit(main())
