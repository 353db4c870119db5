"""How Sphinx builds the documentation: ``tox -e docs``, or ``sphinx-build -W docs build/docs``."""

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]

from rapidrtmp import __version__  # noqa: E402

project = "RapidRTMP"
author = "RapidRTMP contributors"
version = release = __version__

extensions = ["myst_parser", "reference"]
exclude_patterns = ["_build"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "deflist"]
highlight_language = "text"

html_theme = "furo"
html_title = f"RapidRTMP {version}"
html_show_copyright = False
html_show_sourcelink = False
