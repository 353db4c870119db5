"""
The console: ``/console``, for operators who have shown the management secret.

The pages are made here and hold no data: a script asks the management API for it, by the session's cookie, and sends
what changes something with the token that stands in the page.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from html import escape
from urllib.parse import parse_qsl

import segno

from rapidrtmp.http.errors import ForbiddenError, TooManyRequestsError, UnauthorizedError
from rapidrtmp.http.pages import page_response, read_template
from rapidrtmp.http.params import read_json_object, read_text
from rapidrtmp.interfaces import NO_STORE, BadRequestError, EventType, HttpError, Request, Response
from rapidrtmp.web.api_access import ApiAccess
from rapidrtmp.web.console.sessions import COOKIE, LIFETIME_S

__all__ = ["CODE_PATTERN", "ConsolePages"]

#: No secret is longer.
MAX_SECRET = 1024
#: What can be drawn as a code: addresses.
CODE_PATTERN = r"^[!-~]{1,1500}$"
_FORM_FIELDS = 10


class ConsolePages:
    """
    Answers for ``/console`` and what is below it.

    :param access: decides who may manage.
    :param find_public_root: tells what URLs for viewers begin with, by a request for a page.
    """

    def __init__(self, access: ApiAccess, find_public_root: Callable[[Request], str]) -> None:
        self._find_public_root = find_public_root
        self._access = access
        self._login = read_template("login.html")
        self._console = read_template("console.html")

    def console(self, request: Request) -> Response:
        """The console, or the page to log in at: ``GET /console``."""
        sessions = self._access.sessions
        session = sessions.of(request)
        if not sessions.is_good(session):
            return self._login_page("")
        types = " ".join(each.value for each in EventType)
        root, token = escape(self._find_public_root(request)), escape(sessions.page_token(session))
        return _page(self._console.substitute(token=token, types=types, public=root))

    def log_in(self, request: Request) -> Response:
        """
        Begin a session for a client that sends the secret: ``POST /console/login``. Wrong ones are counted and slowed
        as those of the API.
        """
        try:
            self._access.check_login(request, _form(request).get("secret", "").strip()[:MAX_SECRET])
        except (ForbiddenError, UnauthorizedError, TooManyRequestsError) as error:
            return self._login_page(str(error), error)
        return _redirect(_cookie(request, self._access.sessions.begin(), LIFETIME_S))

    def log_out(self, request: Request) -> Response:
        """
        End the session: ``POST /console/logout``.

        :raises ForbiddenError: no page of the session sends it.
        """
        sessions = self._access.sessions
        session = sessions.of(request)
        if sessions.is_good(session):
            self._access.check_page(request, session, _form(request).get("token", ""))
            sessions.end(session)
        return _redirect(_cookie(request, "", 0))

    def code(self, request: Request) -> Response:
        """
        A text as a QR code, in SVG: ``POST /console/code``.

        :raises BadRequestError: it is no address.
        """
        text = read_text(read_json_object(request), "text")
        if not re.fullmatch(CODE_PATTERN, text):
            raise BadRequestError("text is empty, too long, or not an address: printable ASCII without spaces")
        drawn = io.BytesIO()
        segno.make(text, error="l", micro=False).save(
            drawn, kind="svg", scale=4, light="#fff", xmldecl=False, omitsize=True
        )
        return Response(200, {"Content-Type": "image/svg+xml", **NO_STORE}, drawn.getvalue())

    def _login_page(self, problem: str, error: HttpError | None = None) -> Response:
        status = 200
        if error is not None:
            status = 403 if isinstance(error, ForbiddenError) else 401 if isinstance(error, UnauthorizedError) else 429
        shown = f'<p id="problem" class="notice" role="alert">{escape(problem[:1].upper() + problem[1:])}.</p>'
        page = _page(self._login.substitute(problem=shown if problem else ""), status)
        waiting = {name: value for name, value in error.headers.items() if name == "Retry-After"} if error else {}
        return Response(page.status, {**page.headers, **waiting}, page.body)


def _page(body: str, status: int = 200) -> Response:
    return page_response(body, foreign_script="", cache_control="no-store", status=status, has_forms=True)


def _form(request: Request) -> dict[str, str]:
    """The fields of a form."""
    try:
        return dict(parse_qsl(request.body.decode("utf-8", "replace"), max_num_fields=_FORM_FIELDS))
    except ValueError as error:
        raise BadRequestError(f"the form has more than {_FORM_FIELDS} fields") from error


def _cookie(request: Request, session: str, lifetime_s: int) -> str:
    secure = "; Secure" if request.scheme == "https" else ""
    return f"{COOKIE}={session}; Path=/; Max-Age={lifetime_s}; HttpOnly; SameSite=Strict{secure}"


def _redirect(cookie: str) -> Response:
    """Lead from what is below the console to it."""
    return Response(303, {"Location": "../console", "Set-Cookie": cookie, **NO_STORE})
