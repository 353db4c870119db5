"""What is shown to people where a program gets an error as JSON: a page that says what is wrong, with a way on."""

from __future__ import annotations

from html import escape
from string import Template

from rapidrtmp.http.pages import page_response, read_template
from rapidrtmp.interfaces import Response

__all__ = ["ErrorPages"]

#: Where programs ask, whatever they say they accept.
API_PATH = "/api/"
_TITLES = {400: "No such address", 401: "Not open to you", 403: "Not open to you", 404: "Not found"}
_LATER = "Not now"


class ErrorPages:
    """Makes pages of errors."""

    def __init__(self) -> None:
        self._template: Template = read_template("refused.html")

    @staticmethod
    def is_wanted(method: str, path: str, accept: str) -> bool:
        """Whether it is a browser that asks for something to show."""
        return method in ("GET", "HEAD") and "text/html" in accept and not path.startswith(API_PATH)

    def render(self, error: Response, reason: str, path: str) -> Response:
        """
        The page of an error.

        :param error: the answer to programs, whose status and fields it has as well.
        :param reason: what is wrong.
        :param path: where the request was for.
        """
        title = _TITLES.get(error.status, _LATER if error.status in (429, 503) else "Something went wrong")
        root = "../" * (path.count("/") - 1) or "./"
        body = self._template.substitute(title=title, reason=escape(reason[:1].upper() + reason[1:]), root=root)
        page = page_response(body, foreign_script="", cache_control="no-store", status=error.status)
        return Response(page.status, {**error.headers, **page.headers}, page.body)
