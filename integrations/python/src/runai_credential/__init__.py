"""Gives Run:ai bearer tokens, from the program ``runai-credential``.

- :class:`TokenSource` and :func:`token`: the token itself.
- :mod:`runai_credential.requests`, :mod:`runai_credential.httpx`: ``RunaiAuth`` for these two.

The program keeps the configuration, the secret and the cache. This package keeps a token in memory
for as long as it lives.
"""

from ._source import CredentialError, TokenSource, token

__all__ = ["CredentialError", "TokenSource", "token"]
__version__ = "0.1.0"
