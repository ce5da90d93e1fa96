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
    """Puts the token into each request to a host that may have it, and replaces one that is refused with 401, once.

    Any other host of a request is an error (exit code 6). After a redirect to another origin there is no token.

    :param tokens: where the tokens come from, if not from ``TokenSource()``; may be shared.
    """

    # The connection is free again only when all was read.
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
        # A thread only if the program has to be called.
        token = self.tokens._kept(origin) or await _in_thread(functools.partial(self.tokens.token, origin))
        response = yield _with(request, token)
        if _is_refused(response, token):
            await response.aread()
            token = await _in_thread(functools.partial(self.tokens.another, token, _origin(response.request)))
            if _can_be_sent_again(response.request):
                yield _with(response.request, token)


async def _in_thread(call: Callable[[], str]) -> str:
    # By anyio, which httpx needs anyway and which knows whose event loop this is.
    return await anyio.to_thread.run_sync(call)


def _origin(request: httpx.Request) -> str:
    # Without user info, which is no part of httpx's netloc.
    return f"{request.url.scheme}://{request.url.netloc.decode('ascii')}"


def _with(request: httpx.Request, token: str) -> httpx.Request:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


def _is_refused(response: httpx.Response, token: str) -> bool:
    # The response is that of the last redirect; the header is gone if that led to another origin, which may be anybody's.
    return response.status_code == 401 and response.request.headers.get("Authorization") == f"Bearer {token}"


def _can_be_sent_again(request: httpx.Request) -> bool:
    """A body that is not in memory was read from something that may not begin again. The new token serves the next one."""
    return isinstance(request.stream, httpx.ByteStream)
