"""The Run:ai REST API for scripts, with requests and the package of integrations/python.

CONTROL_PLANE is the control plane, such as https://acme.run.ai.
"""

import os

import requests
from runai_credential.requests import RunaiAuth

session = requests.Session()
# A token for each request, and another one where the server refuses it (401).
session.auth = RunaiAuth()


def call(method, path, **request):
    """The answer's JSON."""
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
    """All items of a list that comes in pages under this name."""
    offset, following = -1, 0
    # Until nothing follows; or the server leads back, which would never end.
    while following > offset:
        offset = following
        page = call("GET", path, params={"offset": offset, "limit": int(os.environ.get("PAGE_SIZE", "500"))})
        yield from page[name]
        following = page.get("next") or 0
