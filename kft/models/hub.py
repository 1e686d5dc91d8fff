"""The Hugging Face hub: asked once whether it answers; where it doesn't, its cache serves.

Libraries try an unreachable hub again and again for each file of a checkpoint, minutes in all,
before they look into the cache. ``HF_HUB_OFFLINE=1`` asks nothing, and is honoured by them.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from huggingface_hub import constants, get_session, set_client_factory
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

from kft.errors import Finding

_HTTP_ERROR: type[Exception] = HfHubHTTPError.__bases__[0]
"""What its HTTP client raises where no answer comes."""


def find_hub() -> bool:
    """Whether the hub answers; from the first time it doesn't, this process looks in its cache.

    To be called before anything is loaded by a name on the hub. One request is sent, once in a
    process, through the client of ``huggingface_hub``, so its endpoint and proxies count.
    """
    return not constants.is_offline_mode() and _answers()


def hub_findings() -> list[Finding]:
    """A warning where the hub was asked for and can't be reached; asks nothing itself."""
    if constants.is_offline_mode() or not _answers.cache_info().currsize or _answers():
        return []
    return [
        Finding(
            "warning",
            "The hub can't be reached: the files of its cache are used, as they were fetched",
            where=constants.ENDPOINT,
            hint="`HF_HUB_OFFLINE=1` says beforehand that nothing is to be fetched.",
        )
    ]


@cache
def _answers() -> bool:
    session: Any = get_session()
    try:
        session.head(constants.ENDPOINT, timeout=constants.HF_HUB_ETAG_TIMEOUT)
    except (_HTTP_ERROR, OSError):
        kind = type(session)
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # else it says so of each file
        set_client_factory(lambda: kind(event_hooks={"request": [_refuse]}))
        return False
    return True


def _refuse(request: Any) -> None:
    raise OfflineModeIsEnabled(f"{request.url} is not asked: the hub could not be reached before")
