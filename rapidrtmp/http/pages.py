"""What the pages that people look at are made of: templates, the policy they run under, and the player library."""

from __future__ import annotations

from functools import lru_cache
from html import escape
from importlib.resources import files
from string import Template

from rapidrtmp.http import hlsjs
from rapidrtmp.interfaces import Response

__all__ = ["has_own_player_library", "page_response", "player_library", "read_template"]

#: The package whose ``static`` folder holds the files of all pages.
_FILES = "rapidrtmp.web"


def read_template(name: str) -> Template:
    """A page of the package, with ``$name`` for what varies."""
    return Template(files(_FILES).joinpath("static", name).read_text("utf-8"))


@lru_cache(1)
def has_own_player_library() -> bool:
    """Whether the build has put the player library into the package."""
    return files(_FILES).joinpath("static", hlsjs.FILE_NAME).is_file()


def player_library(static: str) -> tuple[str, str]:
    """
    The tag that loads the player library, and its URL if it is not ours, as it is where the build has put it.

    :param static: where our files are, as seen from the page.
    """
    if has_own_player_library():
        return f'<script defer src="{static}/{hlsjs.FILE_NAME}"></script>', ""
    tag = (
        f'<script defer src="{escape(hlsjs.CDN_URL)}" integrity="{escape(hlsjs.INTEGRITY)}"'
        ' crossorigin="anonymous"></script>'
    )
    return tag, hlsjs.CDN_URL


def page_response(
    body: str,
    *,
    foreign_script: str,
    cache_control: str,
    status: int = 200,
    is_framed: bool = False,
    has_forms: bool = False,
) -> Response:
    """
    HTML under a policy that runs our files only (CSP level 3).

    :param is_framed: whether pages of other origins may show it in a frame.
    :param has_forms: whether it sends forms to us, which then tell where they come from.
    """
    forms = "'self'" if has_forms else "'none'"
    ancestors = "*" if is_framed else "'none'"
    policy = (
        f"default-src 'none'; script-src 'self'{' ' if foreign_script else ''}{foreign_script}; style-src 'self'; "
        "img-src 'self'; media-src 'self' blob: data:; connect-src 'self'; worker-src 'self' blob:; "
        f"base-uri 'none'; form-action {forms}; frame-ancestors {ancestors}"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Cache-Control": cache_control,
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin" if has_forms else "no-referrer",
    }
    if not is_framed:
        headers["X-Frame-Options"] = "DENY"  # for browsers that do not know `frame-ancestors`
    return Response(status, headers, body.encode())
