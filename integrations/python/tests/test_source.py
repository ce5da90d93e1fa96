"""Tests the source of tokens with a small program in the place of runai-credential.

tests/integrations/python.rs tests it with the real program.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
import tempfile
import threading
import time
import traceback
import unittest
from pathlib import Path
from typing import Callable, Optional, TypeVar
from unittest import mock

from runai_credential import CredentialError, TokenSource, token

# Records its arguments and its standard input, then runs the file `script`.
PROGRAM = """
import json, os, sys, time
folder = os.path.dirname(os.path.abspath(__file__))
calls = os.path.join(folder, "calls")
given = sys.stdin.read()
with open(calls, "a") as file:
    file.write(json.dumps({"argv": sys.argv[1:], "stdin": given}) + "\\n")
number = len(open(calls).readlines())
exec(open(os.path.join(folder, "script")).read())
"""
ANSWER = 'print(json.dumps({"access_token": f"token-{number}", "token_type": "Bearer", "expires_in": %s}))'

T = TypeVar("T")


def at_once(count: int, work: Callable[[], T]) -> list[T]:
    """Returns the results of `count` threads that start together."""
    results: list[T] = []
    gate = threading.Barrier(count)

    def run() -> None:
        gate.wait()
        results.append(work())

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


class Source(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        (self.folder / "program.py").write_text(PROGRAM)
        self.answers(ANSWER % 3600)

    def answers(self, script: str) -> None:
        (self.folder / "script").write_text(script)

    def source(self, profile: Optional[str] = None, url: Optional[str] = None, timeout: float = 60) -> TokenSource:
        program = [sys.executable, str(self.folder / "program.py")]
        return TokenSource(profile=profile, url=url, command=program, timeout=timeout)

    def calls(self) -> list[dict[str, object]]:
        try:
            return [json.loads(line) for line in (self.folder / "calls").read_text().splitlines()]
        except FileNotFoundError:
            return []

    def test_a_token_is_kept_while_it_lives(self) -> None:
        source = self.source(profile="prod")
        self.assertEqual([source(), source.token(), source()], ["token-1"] * 3)
        self.assertEqual(self.calls(), [{"argv": ["token", "--profile=prod", "--format=json"], "stdin": ""}])

    def test_a_token_that_ends_soon_or_of_unknown_life_is_not_kept(self) -> None:
        for left in ("70", "0", "None", '"3600"'):
            self.answers(ANSWER % left)
            source = self.source()
            self.assertNotEqual(source(), source(), left)

    def test_neither_clock_may_be_behind(self) -> None:
        for clock in ("time.monotonic", "time.time"):
            source = self.source()
            first = source()
            now = time.monotonic() if clock == "time.monotonic" else time.time()
            with mock.patch(clock, lambda now=now: now + 299):
                self.assertEqual(source(), first)
            with mock.patch(clock, lambda now=now: now + 301):
                self.assertNotEqual(source(), first)

    def test_a_refused_token_goes_over_standard_input_and_once(self) -> None:
        self.answers("time.sleep(0.2)\n" + ANSWER % 3600)
        source = self.source()
        old = source()
        new = at_once(100, lambda: source.another(old))
        self.assertEqual(set(new), {"token-2"})
        asked = self.calls()
        self.assertEqual(len(asked), 2)
        self.assertEqual(asked[1], {"argv": ["token", "--format=json", "--rejected-stdin"], "stdin": old})
        # A late caller: another thread has already replaced the token.
        self.assertEqual(source.another(old), "token-2")
        self.assertEqual(len(self.calls()), 2)

    def test_threads_without_a_token_share_one_call_and_one_failure(self) -> None:
        self.answers("time.sleep(0.2)\n" + ANSWER % 0)
        source = self.source()
        self.assertEqual(set(at_once(20, source)), {"token-1"})
        self.answers(
            'time.sleep(0.2)\nsys.exit("runai-credential: note: x\\nrunai-credential: error: no server\\nhint: start it")'
        )

        def failure() -> str:
            with self.assertRaises(CredentialError) as caught:
                source()
            return str(caught.exception)

        self.assertEqual(set(at_once(20, failure)), {"no server\nhint: start it"})
        self.assertEqual(len(self.calls()), 2)

    def test_errors_have_the_words_and_the_code_of_the_program(self) -> None:
        self.answers(
            'sys.stderr.write("runai-credential: error: the server refused client ci\\nhint: check the secret\\n")\nsys.exit(4)'
        )
        with self.assertRaises(CredentialError) as caught:
            self.source()()
        error = caught.exception
        self.assertEqual(
            (error.what, error.hint, error.exit_code), ("the server refused client ci", "check the secret", 4)
        )
        self.assertEqual(str(pickle.loads(pickle.dumps(error))), "the server refused client ci\nhint: check the secret")

    def test_no_program_a_slow_one_and_a_wrong_one(self) -> None:
        with self.assertRaisesRegex(CredentialError, "/nonexistent/rc cannot be run: No such file.*\nhint: install"):
            token(command="/nonexistent/rc")
        self.answers("time.sleep(60)")
        with self.assertRaisesRegex(CredentialError, "no answer in 0.5 s") as caught:
            self.source(timeout=0.5)()
        self.assertIsNone(caught.exception.exit_code)
        for wrong in ("", "[]", "token-1", '{"access_token": 1}', '{"access_token": ""}'):
            self.answers(f"print({wrong!r})")
            with self.assertRaisesRegex(CredentialError, "not the JSON") as caught:
                self.source()()
            self.assertNotIn("token-1", "".join(traceback.format_exception(None, caught.exception, caught.exception.__traceback__)))

    def test_each_origin_has_its_own_and_nothing_of_a_url_but_its_origin_is_an_argument(self) -> None:
        source = self.source()
        self.assertEqual(source.token("https://a.example/x?secret=1#2"), "token-1")
        self.assertEqual(source.token("https://a.example"), "token-1")
        self.assertEqual(source.token("https://b.example:8443/"), "token-2")
        urls = [call["argv"] for call in self.calls()]
        self.assertEqual(
            urls,
            [["token", "--format=json", f"--url={url}"] for url in ("https://a.example", "https://b.example:8443")],
        )
        with self.assertRaisesRegex(CredentialError, "user info") as caught:
            source.token("https://me:canary@a.example/")
        self.assertNotIn("canary", str(caught.exception))
        self.assertEqual(caught.exception.exit_code, 6)

    def test_the_token_is_in_no_repr_and_no_pickle(self) -> None:
        source = self.source()
        source()
        self.assertNotIn("token-1", repr(source) + repr(vars(source)) + repr(source._places[None].held))
        packed = pickle.dumps(source)
        self.assertNotIn(b"token-1", packed)
        self.assertEqual(pickle.loads(packed)(), "token-2")

    @unittest.skipUnless(hasattr(os, "fork"), "no fork")
    def test_a_child_does_not_wait_for_a_thread_of_its_parent(self) -> None:
        self.answers("time.sleep(1)\n" + ANSWER % 3600)
        source = self.source()
        thread = threading.Thread(target=source)
        thread.start()
        while not self.calls():
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            os._exit(0 if source() == "token-2" else 1)
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        thread.join()


if __name__ == "__main__":
    unittest.main()
