"""Loading ahead and saving behind the network in threads, with a bound on what is held in memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Budget:
    """Bytes that a stage holds, with a bound that is passed by one item a thread at most.

    Args:
        limit: bytes, at least 1.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._turn = -1
        self._closed = False
        self._room = threading.Condition()

    def wait(self, *, turn: int | None = None) -> None:
        """Wait until less than the bound is held, the turn has come, or the budget is closed."""
        with self._room:
            self._room.wait_for(
                lambda: self._held < self.limit or self._closed or (turn is not None and turn <= self._turn)
            )

    def call(self, turn: int) -> None:
        """Let the one with this turn through, and all before, whatever is held."""
        with self._room:
            self._turn = turn
            self._room.notify_all()

    def add(self, size: int) -> None:
        """Hold `size` bytes more."""
        with self._room:
            self._held += size

    def remove(self, size: int) -> None:
        """Hold `size` bytes less."""
        with self._room:
            self._held -= size
            self._room.notify_all()

    def close(self) -> None:
        """Let everybody through who waits."""
        with self._room:
            self._closed = True
            self._room.notify_all()


class Gate:
    """Holds the threads around the network back while it runs, where it takes every core.

    A network on all cores waits, at the end of each layer, for its slowest thread: one that has to share its core holds
    up the others. Threads begin no item while the gate is closed.
    """

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()

    def wait(self) -> None:
        """Wait until the gate is open."""
        self._open.wait()

    @contextmanager
    def closed(self) -> Iterator[None]:
        """Close the gate for a while."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()


class Loader(Generic[Item, Result]):
    """Results of a function of items in their order, computed ahead in threads.

    Threads, for decoding and resizing release the interpreter's lock: nothing is copied between processes, and a
    killed tool leaves none behind.

    Args:
        function: of one item; what it raises is given back in place of its result.
        items: taken as they are needed.
        workers: threads, at least 1.
        ahead: items that are begun before the first of them is taken.
        limit: bytes of results that may wait to be taken.
        size: bytes of a result.
        begin: called once in each thread.
        gate: what each item waits for.
    """

    def __init__(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        workers: int,
        ahead: int,
        limit: int,
        size: Callable[[Result], int],
        begin: Callable[[], None] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate or Gate()
        self._function, self._items, self._size = function, iter(items), size
        self._ahead = max(ahead, workers)
        self._budget = Budget(limit)
        self._pool = ThreadPoolExecutor(workers, "load", initializer=begin)

    def __enter__(self) -> Loader[Item, Result]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._budget.close()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __iter__(self) -> Iterator[tuple[Item, Result | Exception]]:
        pending: deque[tuple[Item, Future[tuple[Result | Exception, int]]]] = deque()
        begun = 0
        while True:
            for item in self._items:
                pending.append((item, self._pool.submit(self._run, item, begun)))
                begun += 1
                if len(pending) >= self._ahead:
                    break
            if not pending:
                return
            self._budget.call(begun - len(pending))  # or it could wait for room that later ones took
            item, future = pending.popleft()
            result, size = future.result()
            self._budget.remove(size)
            yield item, result
            del result, future

    def _run(self, item: Item, turn: int) -> tuple[Result | Exception, int]:
        self._budget.wait(turn=turn)
        self._gate.wait()
        try:
            result = self._function(item)
            size = self._size(result)
        except Exception as error:  # whatever a broken file makes its reader raise
            return error.with_traceback(None), 0
        self._budget.add(size)
        return result, size


class Saver:
    """Runs jobs in threads behind the network; what one of them raises stops the tool.

    Args:
        workers: threads, at least 1.
        limit: bytes that jobs may hold while they wait.
        waiting: jobs that may wait.
        begin: called once in each thread.
        gate: what each job waits for.
    """

    def __init__(
        self,
        *,
        workers: int,
        limit: int,
        waiting: int,
        begin: Callable[[], None] | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._gate = gate or Gate()
        self._least = -(-limit // waiting)
        self._budget = Budget(limit)
        self._pool = ThreadPoolExecutor(workers, "save", initializer=begin)
        self._error: BaseException | None = None

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True)
        if error is None:
            self.check()

    def check(self) -> None:
        """Raise what a job raised."""
        if self._error is not None:
            raise self._error

    def submit(self, job: Callable[..., None], *args: Any, size: int) -> None:
        """Run a job as soon as a thread is free; waits while too much is held.

        Args:
            job: called once.
            args: its arguments.
            size: bytes that they hold.
        """
        self.check()
        weight = max(size, self._least)
        self._budget.wait()
        self._budget.add(weight)
        self._pool.submit(self._run, job, args, weight)

    def _run(self, job: Callable[..., None], args: tuple[Any, ...], weight: int) -> None:
        self._gate.wait()
        try:
            if self._error is None:
                job(*args)
        except BaseException as error:
            self._error = error
        finally:
            del args
            self._budget.remove(weight)
