"""Whether the network may be used: the one switch that everything asks before it opens a connection."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["OFFLINE_VARIABLE", "forbid_network", "is_offline"]

OFFLINE_VARIABLE = "BIRDEMB_OFFLINE"


def is_offline() -> bool:
    """Tell whether the environment variable ``BIRDEMB_OFFLINE`` forbids the network: set, and neither empty nor 0."""
    return os.environ.get(OFFLINE_VARIABLE, "0") not in ("", "0")


@contextmanager
def forbid_network() -> Iterator[None]:
    """Forbid the network until the block ends, to this process and to those that it starts meanwhile.

    Examples
    --------
    >>> with forbid_network():
    ...     is_offline()
    True
    """
    before = os.environ.get(OFFLINE_VARIABLE)
    os.environ[OFFLINE_VARIABLE] = "1"  # worker processes inherit it
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFFLINE_VARIABLE]
        else:
            os.environ[OFFLINE_VARIABLE] = before
