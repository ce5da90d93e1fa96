"""Gets tokens from the program, and keeps a copy of each in memory for as long as it lives."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
import weakref
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Callable, Optional, Union

# Seconds that a copy must have left, so that it does not end on the way. The program has the same
# margin for a script.
_MARGIN = 70.0
# Seconds after which the package calls the program again at the latest. The program may have
# fetched the token a minute ago, and it refreshes tokens early.
_LOOK_AGAIN = 300.0
# A message of the program has these two lines and no others.
_ERROR, _HINT = "runai-credential: error: ", "hint: "

Command = Union[str, "os.PathLike[str]", Sequence[str]]


class CredentialError(Exception):
    """Raised if there is no token.

    ``str()`` says what happened and what to do. It contains no token.

    ``exit_code`` is the exit status of the program: 2 usage, 3 configuration or secret,
    4 credentials refused, 5 server not reached, 6 not a host of the profile, 7 no token lives long
    enough. It is ``None`` if the program did not run or did not end in time.
    """

    def __init__(self, what: str, hint: str = "", exit_code: Optional[int] = None) -> None:
        super().__init__(what, hint, exit_code)
        self.what = what
        self.hint = hint
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.what}\nhint: {self.hint}" if self.hint else self.what


@dataclass(frozen=True)
class _Held:
    """A copy of a token, with the moments until which it is good, on two clocks."""

    token: str = field(repr=False)
    until: float
    until_wall: float

    def is_good(self) -> bool:
        # The monotonic clock stops while a machine sleeps. A user can set the wall clock back.
        return time.monotonic() < self.until and time.time() < self.until_wall


class _Flight:
    """A running call of the program, with its result for the threads that wait for it."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.token: Optional[str] = None
        self.error: Optional[CredentialError] = None


class _Place:
    """The copy and the running call for one origin.

    Threads that need a token at the same time share one call, and its failure.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.held: Optional[_Held] = None
        self.flight: Optional[_Flight] = None


class TokenSource:
    """Gives the token of a profile.

    Call it: ``source()``. It can be the ``api_key`` of an OpenAI client. Any number of threads may
    use it.

    :param profile: the profile. Without it, the program chooses as on the command line.
    :param config: the configuration file, in the place of the usual one.
    :param bearer: ``access_token`` or ``id_token``.
    :param url: the receiver of the token. If no profile names this origin in its ``hosts``, there
        is no token (exit code 6).
    :param command: the program, if it is not ``runai-credential`` on the ``PATH``. A list begins
        with the program and goes on with its first arguments.
    :param timeout: seconds after which the package ends the program. The program has its own
        ``timeout``, which is shorter.
    """

    def __init__(
        self,
        *,
        profile: Optional[str] = None,
        config: Union[str, os.PathLike[str], None] = None,
        bearer: Optional[str] = None,
        url: Optional[str] = None,
        command: Command = "runai-credential",
        timeout: float = 60.0,
    ) -> None:
        self._program = (
            [os.fspath(command)] if isinstance(command, (str, os.PathLike)) else [os.fspath(part) for part in command]
        )
        self._options: list[str] = []
        for name, value in (("profile", profile), ("config", config), ("bearer", bearer)):
            if value is not None:
                self._options.append(f"--{name}={os.fspath(value)}")
        self._url = url
        self._timeout = timeout
        self._guard = threading.Lock()
        self._places: dict[Optional[str], _Place] = {}
        _sources.add(self)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({' '.join([*self._program, *self._options])!r})"

    def __reduce__(self) -> Union[str, tuple[object, ...]]:
        # A copy for another process starts without tokens, so that no pickle contains one.
        return (_rebuilt, (type(self), self._program, self._options, self._url, self._timeout))

    def __call__(self) -> str:
        return self.token()

    def token(self, url: Optional[str] = None) -> str:
        """Returns a valid token, for ``url`` or else for the URL of the constructor."""
        return self._obtain(url, None)

    def another(self, rejected: str, url: Optional[str] = None) -> str:
        """Returns a token after a server refused this one with 401.

        If another thread or process has already replaced it, this is the new one. So any number of
        callers with the same refused token send one request together.
        """
        return self._obtain(url, rejected)

    def _kept(self, url: Optional[str] = None) -> Optional[str]:
        """Returns the token in memory if it is still good. For callers that must not wait."""
        held = self._place(self._url if url is None else url).held
        return held.token if held is not None and held.is_good() else None

    def _obtain(self, url: Optional[str], rejected: Optional[str]) -> str:
        url = self._url if url is None else url
        place = self._place(url)
        while True:
            with place.lock:
                held = place.held
                if held is not None and held.token != rejected and held.is_good():
                    return held.token
                flight = place.flight
                if flight is None:
                    mine = place.flight = _Flight()
                    place.held = None
            if flight is None:
                return self._fly(mine, place, url, rejected)
            flight.done.wait()
            if flight.error is not None:
                raise CredentialError(flight.error.what, flight.error.hint, flight.error.exit_code)
            if flight.token is not None and flight.token != rejected:
                return flight.token
            # That call returned the refused token, or was interrupted. It is this thread's turn.

    def _fly(self, flight: _Flight, place: _Place, url: Optional[str], rejected: Optional[str]) -> str:
        held: Optional[_Held] = None
        try:
            held = self._ask(url, rejected)
            flight.token = held.token
            return held.token
        except CredentialError as error:
            flight.error = error
            raise
        finally:
            with place.lock:
                place.held, place.flight = held, None
            flight.done.set()

    def _place(self, url: Optional[str]) -> _Place:
        origin = None if url is None else _origin(url)
        with self._guard:
            return self._places.setdefault(origin, _Place())

    def _ask(self, url: Optional[str], rejected: Optional[str] = None) -> _Held:
        """Calls the program once.

        It passes a refused token on standard input: every user of the machine can read arguments.
        """
        arguments = [*self._program, "token", *self._options, "--format=json"]
        if url is not None:
            arguments.append(f"--url={_origin(url)}")
        if rejected is not None:
            arguments.append("--rejected-stdin")
        wall, begun = time.time(), time.monotonic()
        try:
            done = subprocess.run(
                arguments,
                input=(rejected or "").encode("utf-8", "replace"),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=self._timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            # Not chained: the exception of subprocess contains the output so far.
            raise CredentialError(
                f"{self._program[0]} gave no answer in {self._timeout:g} s",
                "see what it waits for: runai-credential -v token",
            ) from None
        except (OSError, ValueError) as error:
            raise CredentialError(
                f"{self._program[0]} cannot be run: {getattr(error, 'strerror', None) or type(error).__name__}",
                "install runai-credential, or say with command= where it is",
            ) from None
        if done.returncode != 0:
            raise _failure(done.returncode, done.stderr)
        return _held(done.stdout, begun, wall)


# The sources of this process, for `_after_fork`.
_sources: weakref.WeakSet[TokenSource] = weakref.WeakSet()


def _after_fork() -> None:
    """Gives the sources of a child new locks and no running call.

    A child has none of its parent's other threads: there they never finish a call or release a
    lock.
    """
    for source in list(_sources):
        source._guard = threading.Lock()
        for place in source._places.values():
            place.lock, place.flight = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def token(
    *,
    profile: Optional[str] = None,
    config: Union[str, os.PathLike[str], None] = None,
    bearer: Optional[str] = None,
    url: Optional[str] = None,
    command: Command = "runai-credential",
    timeout: float = 60.0,
) -> str:
    """Calls the program and returns a token. The parameters are those of :class:`TokenSource`."""
    return TokenSource(
        profile=profile, config=config, bearer=bearer, url=url, command=command, timeout=timeout
    ).token()


def _rebuilt(
    kind: Callable[[], TokenSource], program: list[str], options: list[str], url: Optional[str], timeout: float
) -> TokenSource:
    source = kind()
    source._program, source._options, source._url, source._timeout = program, options, url, timeout
    return source


def _origin(url: str) -> str:
    """Returns the origin of a URL, which alone decides.

    Path and query may hold a secret, which must not show in the list of processes. If the text is
    not plainly an origin, the package passes it on up to its path. The program checks and refuses
    it.
    """
    cut = len(url)
    begin = url.find("://")
    for end in "/?#":
        found = url.find(end, begin + 3 if begin >= 0 else 0)
        cut = min(cut, found if found >= 0 else cut)
    origin = url[:cut]
    if "@" in origin:
        # The user info may hold a password.
        raise CredentialError("there is no token for a URL with user info", "take it out of the URL", 6)
    return origin


def _held(answer: bytes, begun: float, wall: float) -> _Held:
    try:
        read = json.loads(answer)
        text = read["access_token"]
        left = read.get("expires_in")
    except (ValueError, KeyError, TypeError, AttributeError):
        # Not chained: the exception of json contains the text.
        text, left = None, None
    if not isinstance(text, str) or not text:
        raise CredentialError("the program's answer is not the JSON of runai-credential", "check command=") from None
    usable = 0.0
    if isinstance(left, (int, float)):
        # A token with less left than the margin is not kept: the next call gets it anew.
        usable = min(max(0.0, left - _MARGIN), _LOOK_AGAIN)
    return _Held(text, begun + usable, wall + usable)


def _failure(code: int, stderr: bytes) -> CredentialError:
    what, hint = "", ""
    for line in stderr.decode("utf-8", "replace").splitlines():
        if line.startswith(_ERROR):
            what = line[len(_ERROR) :]
        elif line.startswith(_HINT):
            hint = line[len(_HINT) :]
    return CredentialError(what or f"runai-credential ended with {code}", hint, code)
