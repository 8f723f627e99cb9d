"""Following a run while it goes on: whoever does so sees what is embedded so far, and says when to stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Protocol

from birdemb.cache import CacheWriter, EmbeddingCache
from birdemb.embed.planning import Planner

__all__ = ["Follower", "Standing"]


@dataclass(frozen=True)
class Standing:
    """Where a run stands.

    Parameters
    ----------
    cache : EmbeddingCache
        Holds what was embedded before, and since the last `flush`.
    writer : CacheWriter
    planner : Planner
    cache_lock : Lock
        To be held while the cache is asked.
    """

    cache: EmbeddingCache
    writer: CacheWriter
    planner: Planner
    cache_lock: Lock

    def flush(self) -> None:
        """Put all that is embedded so far into the cache."""
        with self.cache_lock:
            self.writer.flush()

    def recordings(self, first: int = 0) -> Iterator[tuple[str, str]]:
        """Give names and content of the recordings that were looked at, from the one with this number on."""
        for content in self.planner.contents[first:]:
            yield content.recording.name, content.sha256


class Follower(Protocol):
    """Follows a run."""

    def stop_at(self) -> float:
        """Give when the run is to stop, by `time.monotonic`; asked again and again."""

    def follow(self, standing: Standing, windows: int) -> None:
        """Take note that so many windows more were embedded. Called in the thread of the run, which waits."""
