"""``RunaiAuth`` for ``requests``: ``requests.get(url, auth=RunaiAuth())``."""

from __future__ import annotations

import functools
from typing import Any, Optional

from requests import PreparedRequest, Response
from requests.auth import AuthBase
from requests.cookies import extract_cookies_to_jar
from requests.utils import rewind_body

from ._source import TokenSource

__all__ = ["RunaiAuth"]


class RunaiAuth(AuthBase):
    """Puts the token into each request to a host that may have it.

    If the server refuses the token with 401, the class replaces the token once. A request to any
    other host is an error (exit code 6). After a redirect to another origin there is no token.

    :param tokens: the source of the tokens, ``TokenSource()`` by default. Several objects may share
        it.
    """

    def __init__(self, tokens: Optional[TokenSource] = None) -> None:
        self.tokens = TokenSource() if tokens is None else tokens

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tokens!r})"

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        token = self.tokens.token(request.url)
        request.headers["Authorization"] = f"Bearer {token}"
        request.register_hook("response", functools.partial(self._answered, token))
        return request

    def _answered(self, token: str, response: Response, **settings: Any) -> Response:
        asked = response.request
        # After a redirect to another origin the header is gone, and the host may be foreign.
        if response.status_code != 401 or asked.headers.get("Authorization") != f"Bearer {token}":
            return response
        # The connection is free again only when the whole body is read.
        response.content  # noqa: B018
        new = self.tokens.another(token, asked.url)
        if not _can_be_sent_again(asked):
            # The new token serves the next request.
            return response
        response.close()
        again = asked.copy()
        if again.body is not None and not isinstance(again.body, (bytes, str)):
            rewind_body(again)
        if again._cookies is not None:
            extract_cookies_to_jar(again._cookies, asked, response.raw)
            again.prepare_cookies(again._cookies)
        again.headers["Authorization"] = f"Bearer {new}"
        # Not through the session, and so not through this hook: the second try is the last one.
        answer: Response = response.connection.send(again, **settings)
        answer.history.append(response)
        answer.request = again
        return answer


def _can_be_sent_again(request: PreparedRequest) -> bool:
    """Tells whether the body can be sent again. A stream must know where it began."""
    return isinstance(request.body, (bytes, str, type(None))) or isinstance(request._body_position, int)
