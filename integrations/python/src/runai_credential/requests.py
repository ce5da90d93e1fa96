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
    """Puts the token into each request to a host that may have it, and replaces one that is refused with 401, once.

    Any other host of a request is an error (exit code 6). After a redirect to another origin there is no token.

    :param tokens: where the tokens come from, if not from ``TokenSource()``; may be shared.
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
        # The header is gone after a redirect to another origin, and the host may be anybody's.
        if response.status_code != 401 or asked.headers.get("Authorization") != f"Bearer {token}":
            return response
        # The connection is free again only when all was read.
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
        # Past the session, and so past this hook: once.
        answer: Response = response.connection.send(again, **settings)
        answer.history.append(response)
        answer.request = again
        return answer


def _can_be_sent_again(request: PreparedRequest) -> bool:
    """A body that is no text is a stream; it must know where it began."""
    return isinstance(request.body, (bytes, str, type(None))) or isinstance(request._body_position, int)
