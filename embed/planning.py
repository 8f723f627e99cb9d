"""What is left to be done: recordings to tasks, a little ahead of the workers.

One thread goes through the recordings while workers work: it hashes them, looks them up in the cache, splits what is
missing into parts, and gathers these into tasks. It stays only so far ahead that memory does not depend on how many
recordings there are.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

from birdemb.cache import CachedRecording, EmbeddingCache
from birdemb.embed.contents import Content, ContentMemory, identify_content
from birdemb.embed.recordings import FoundRecordings, Recording
from birdemb.embed.tasks import Piece
from birdemb.embed.windows import PART_SECONDS, Part, WindowGrid, plan_parts
from birdemb.errors import RecordingError
from birdemb.progress import Progress

__all__ = ["Planner"]

_TASK_SECONDS = 60.0  # of sound: long beside what handing out a task costs, short beside a run
_RECORDINGS_A_TASK = 64
_TASKS_AHEAD = 64
_THREADS = 4  # They wait for the disk, or hash outside of the interpreter.
_RECORDINGS_AT_ONCE = 256  # given to a thread, so that handing them out costs nothing
_BATCHES_AHEAD = 4
_SECONDS_BETWEEN_SAVES = 5.0

# To guess the length of what is not opened before it is decoded: a first guess is all that is wanted of it.
_BYTES_A_SECOND = {".flac": 50_000} | dict.fromkeys((".mp3", ".oga", ".ogg", ".opus"), 12_000)
_PLAIN_BYTES_A_SECOND = 80_000


class Planner:
    """Finds out what there is to do, in a thread of its own, from ``with`` on.

    Parameters
    ----------
    found : FoundRecordings
    cache : EmbeddingCache
        To look up what is there.
    cache_lock : Lock
        Held while the cache is asked; others hold it while they write.
    sample_rate : int
        In Hz, of the encoder.
    grid : WindowGrid
    memory : ContentMemory
        Learns what recordings hold, and is saved every few seconds.
    progress : Progress
        Is told what there is to do, and of recordings that need nothing done.

    Attributes
    ----------
    contents : list of Content
        What the recordings hold, in their order; all of them once `take` has given None.
    known : dict
        Recordings that were complete in the cache, by their sha256.
    """

    def __init__(
        self,
        found: FoundRecordings,
        cache: EmbeddingCache,
        cache_lock: threading.Lock,
        *,
        sample_rate: int,
        grid: WindowGrid,
        memory: ContentMemory,
        progress: Progress,
    ) -> None:
        self.contents: list[Content] = []
        self.known: dict[str, CachedRecording] = {}
        self._found = found
        self._cache = cache
        self._cache_lock = cache_lock
        self._sample_rate = sample_rate
        self._grid = grid
        self._memory = memory
        self._progress = progress
        self._tasks: queue.Queue[list[Piece]] = queue.Queue(_TASKS_AHEAD)
        self._gathered: list[Piece] = []
        self._parts_left: dict[str, int] = {}
        self._failed: dict[str, dict[str, RecordingError]] = {}  # by content, then by the recording's name
        self._planned: dict[str, str] = {}  # content to the name of the recording that it is read from
        self._stop = threading.Event()
        self._hurried = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="birdemb-planner", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def hurry(self) -> None:
        """Hand over whatever there is when no task is left: workers are waiting."""
        self._hurried = True

    @property
    def tasks_left(self) -> int | None:
        """How many tasks there are still to be taken; None while that is not known."""
        return None if self._thread.is_alive() else self._tasks.qsize()

    @property
    def finished(self) -> bool:
        """Whether all is planned, and all that was planned is done."""
        return self.tasks_left == 0 and not self._parts_left

    def settle(self, seconds: float) -> None:
        """Wait until everything is planned, but no longer than this."""
        self._thread.join(seconds)

    def take(self, *, wait: bool = False, until: float = math.inf) -> list[Piece] | None:
        """Give the next task.

        Parameters
        ----------
        wait : bool
            Whether to wait for it.
        until : float
            By `time.monotonic`; no longer than this.

        Returns
        -------
        list of Piece, or None
            Empty where none is ready yet; None once all have been taken.

        Raises
        ------
        BaseException
            What ended the planning, if it was an error.
        """
        while True:
            running = self._thread.is_alive()  # asked first: what it puts last must not be missed
            try:
                return self._tasks.get(timeout=0.05) if wait and running else self._tasks.get_nowait()
            except queue.Empty:
                if not running:
                    if self._error is not None:
                        raise self._error from None
                    return None
                if not wait or time.monotonic() >= until:
                    return []

    def finish(self, sha256: str, error: RecordingError | None) -> bool:
        """Note that a part is done; gives whether its recording now is."""
        if error is not None:
            self._failed.setdefault(sha256, {}).setdefault(self._planned[sha256], error)
        self._parts_left[sha256] -= 1
        if self._parts_left[sha256]:
            return False
        del self._parts_left[sha256]
        return True

    def error_of(self, content: Content) -> RecordingError | None:
        """Give what is wrong with a recording, if anything is."""
        failed = self._failed.get(content.sha256)
        if content.error is not None or failed is None:
            return content.error
        if content.recording.name in failed:
            return failed[content.recording.name]
        name, error = next(iter(failed.items()))
        if content.stamp.size == 0:
            return error  # that it is empty
        same = f"its content is the same as that of {name}"
        if error.stage != "read":
            return RecordingError(error.stage, f"{same}: {error.reason}")
        advice = "; run the command again"
        return RecordingError("read", f"{same}, which could not be read: {error.reason.removesuffix(advice)}{advice}")

    def _run(self) -> None:
        saved = time.monotonic()
        try:
            pool = ThreadPoolExecutor(_THREADS)
            try:
                for contents in self._identify(pool):
                    self._plan(contents, pool)
                    if time.monotonic() - saved > _SECONDS_BETWEEN_SAVES:
                        self._memory.save()
                        saved = time.monotonic()
            finally:
                pool.shutdown(cancel_futures=True)
            self._hand_over()
        except BaseException as error:  # noqa: BLE001 - raised again by `take`, in the thread that waits for it
            self._error = error

    def _identify(self, pool: ThreadPoolExecutor) -> Iterator[list[Content]]:
        """Give what the recordings hold, in their order, as many at a time as are known."""
        recordings = self._found.recordings
        waiting: deque[Future[list[Content]]] = deque()
        # Few at first, so that workers have something to do; then as many as a thread gets through in a moment.
        start, size = 0, 1
        while (start < len(recordings) or waiting) and not self._stop.is_set():
            while start < len(recordings) and len(waiting) < _BATCHES_AHEAD:
                waiting.append(pool.submit(self._identify_some, recordings[start : start + size]))
                start, size = start + size, min(2 * size, _RECORDINGS_AT_ONCE)
            contents = waiting.popleft().result()
            if not self._stop.is_set():
                yield contents

    def _identify_some(self, recordings: Sequence[Recording]) -> list[Content]:
        contents = []
        self._memory.look_up(recordings)
        for recording in recordings:
            if self._stop.is_set():
                break
            contents.append(identify_content(recording, self._memory, self._stop.is_set))
        return contents

    def _plan(self, contents: Sequence[Content], pool: ThreadPoolExecutor) -> None:
        self.contents += contents
        wanted: dict[str, list[Content]] = {}
        for content in contents:
            # The same content under another name needs nothing more.
            if content.error is None and content.sha256 not in self._planned and content.sha256 not in self.known:
                wanted.setdefault(content.sha256, []).append(content)
        with self._cache_lock:
            complete = self._cache.find(wanted)
            missing = {sha256: same for sha256, same in wanted.items() if sha256 not in complete}
            started = self._cache.find_parts(missing) if missing else {}
        self.known |= complete
        for sha256 in complete:
            self._failed.pop(sha256, None)
        seconds = 0.0
        settled = len(contents) - len(missing)
        for content, parts in pool.map(self._split, missing.values()):
            if self._stop.is_set():
                return
            # What is damaged is so under every name; what cannot be read may be readable under another.
            if not isinstance(parts, RecordingError) or parts.stage != "read":
                self._planned[content.sha256] = content.recording.name
            if isinstance(parts, RecordingError):
                settled += 1
                continue
            self._failed.pop(content.sha256, None)
            there = started.get(content.sha256, set())
            left = [part for part in parts if part.first_window not in there] or parts
            self._parts_left[content.sha256] = len(left)
            for part in left:
                piece = Piece(
                    content.recording, content.sha256, content.stamp, part, self._guess_seconds(content, part)
                )
                seconds += piece.seconds
                self._gather(piece)
        self._progress.expect(seconds, recordings=len(contents))
        if settled:
            self._progress.advance(recordings=settled)
        if self._hurried and self._tasks.empty():
            self._hand_over()

    def _split(self, same: Sequence[Content]) -> tuple[Content, list[Part] | RecordingError]:
        """Split the first that can be read of recordings with the same content."""
        error = RecordingError("read", "the run was stopped")
        for content in same:
            if self._stop.is_set():
                break
            try:
                return content, plan_parts(content.recording, self._sample_rate, self._grid)
            except RecordingError as raised:
                error = raised
                self._failed.setdefault(content.sha256, {})[content.recording.name] = error
                if error.stage != "read":
                    break
        return content, error

    def _guess_seconds(self, content: Content, part: Part) -> float:
        if part.windows is not None:
            return part.windows * self._grid.hop
        if part.first_window:
            return 1.5 * PART_SECONDS  # the last of several parts is one to two times as long
        return content.stamp.size / _BYTES_A_SECOND.get(content.recording.suffix, _PLAIN_BYTES_A_SECOND)

    def _gather(self, piece: Piece) -> None:
        self._gathered.append(piece)
        enough = sum(piece.seconds for piece in self._gathered) >= _TASK_SECONDS
        if enough or len(self._gathered) >= _RECORDINGS_A_TASK:
            self._hand_over()

    def _hand_over(self) -> None:
        if not self._gathered:
            return
        task, self._gathered = self._gathered, []
        while not self._stop.is_set():
            try:
                self._tasks.put(task, timeout=0.2)
            except queue.Full:
                continue
            return
