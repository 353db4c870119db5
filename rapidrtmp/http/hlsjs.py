"""
Which hls.js the player page loads: the copy in ``static/`` that the build put there, else the same file from a CDN.

The version is pinned here and in ``package.json``; a test holds the two together.
"""

from __future__ import annotations

VERSION = "1.7.4"
CDN_URL = f"https://cdn.jsdelivr.net/npm/hls.js@{VERSION}/dist/hls.min.js"
#: Subresource integrity of ``dist/hls.min.js``, the same file in the npm package and at the CDN.
INTEGRITY = "sha384-p9vgU/7IYJWd3I4STrtqxqR/2cAQlhIX7D/HrTnIMEjjcUox165b7se7sxmm3zDg"
#: Name of the copy within ``rapidrtmp/web/static``.
FILE_NAME = "hls.min.js"
