"""``RunaiAuth`` for ``httpx``: ``httpx.Client(auth=RunaiAuth())``, or ``AsyncClient``."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Generator
from typing import Callable, Optional

import anyio.to_thread
import httpx

from ._source import TokenSource

__all__ = ["RunaiAuth"]


class RunaiAuth(httpx.Auth):
    """Puts the token into each request to a host that may have it.

    If the server refuses the token with 401, the class replaces the token once. A request to any
    other host is an error (exit code 6). After a redirect to another origin there is no token.

    :param tokens: the source of the tokens, ``TokenSource()`` by default. Several objects may share
        it.
    """

    # The connection is free again only when the whole body is read.
    requires_response_body = True

    def __init__(self, tokens: Optional[TokenSource] = None) -> None:
        self.tokens = TokenSource() if tokens is None else tokens

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.tokens!r})"

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        token = self.tokens.token(_origin(request))
        response = yield _with(request, token)
        if _is_refused(response, token):
            response.read()
            token = self.tokens.another(token, _origin(response.request))
            if _can_be_sent_again(response.request):
                yield _with(response.request, token)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        origin = _origin(request)
        # A thread is necessary only for a call of the program.
        token = self.tokens._kept(origin) or await _in_thread(functools.partial(self.tokens.token, origin))
        response = yield _with(request, token)
        if _is_refused(response, token):
            await response.aread()
            token = await _in_thread(functools.partial(self.tokens.another, token, _origin(response.request)))
            if _can_be_sent_again(response.request):
                yield _with(response.request, token)


async def _in_thread(call: Callable[[], str]) -> str:
    # httpx needs anyio anyway, and anyio detects which event loop runs.
    return await anyio.to_thread.run_sync(call)


def _origin(request: httpx.Request) -> str:
    # Without user info: httpx's netloc does not contain it.
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"


def _with(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _is_refused(response: httpx.Response, token: str) -> bool:
    # The response is that of the last redirect. If that led to another origin, which may be
    # foreign, the header is gone.
    return response.status_code == 401 and response.request.headers.get("Authorization") == f"Bearer {token}"


def _can_be_sent_again(request: httpx.Request) -> bool:
    """Tells whether the body can be sent again. A stream may not start again.

    If it cannot, the new token serves the next request.
    """
    return isinstance(request.stream, httpx.ByteStream)
