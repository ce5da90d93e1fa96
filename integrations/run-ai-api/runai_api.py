"""The Run:ai REST API for scripts, with requests and the package of integrations/python.

CONTROL_PLANE is the URL of the control plane, such as https://acme.run.ai.
"""

import os

import requests
from runai_credential.requests import RunaiAuth

session = requests.Session()
# Puts a token into each request, and another one if the server refuses it (401).
session.auth = RunaiAuth()


def call(method, path, **request):
    """Returns the JSON of the answer."""
    answer = session.request(method, os.environ["CONTROL_PLANE"] + path, timeout=60, **request)
    if answer.status_code == 401:
        raise SystemExit(f"{method} {path}: HTTP 401, with a new token too: is it for this control plane? {answer.text}")
    if answer.status_code == 403:
        raise SystemExit(
            f"{method} {path}: HTTP 403: the token is good, the application has no access rule for this. {answer.text}"
        )
    answer.raise_for_status()
    return answer.json()


def pages(path, name):
    """Yields all items of a list that comes in pages under this name."""
    offset, following = -1, 0
    # Ends if no page follows, or if the server leads back: that would never end.
    while following > offset:
        offset = following
        page = call("GET", path, params={"offset": offset, "limit": int(os.environ.get("PAGE_SIZE", "500"))})
        yield from page[name]
        following = page.get("next") or 0
