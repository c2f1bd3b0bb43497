"""One process's run: load, network, save, journal."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from . import engine
from .inputs import Case
from .journal import DONE, FAILED, Journal
from .request import PredictError, PredictRequest
from .stages import Gate, Loader, Saver
from .texts import Sentence, Sentences

LOAD_LIMIT = 512 * 2**20  # bytes of prepared cases that wait for the network
SAVE_LIMIT = 256 * 2**20  # bytes of results that wait to be saved
LONGEST_ERROR = 300  # characters


@dataclass(frozen=True)
class Task:
    """A case that is to be done, and where it stands in the list of all."""

    position: int
    case: Case


@dataclass(frozen=True)
class Ready:
    """A loaded case."""

    task: Task
    sentence: Sentence
    prepared: engine.Prepared


@dataclass(frozen=True)
class Threads:
    """How many threads do what.

    Attributes:
        network: of PyTorch, for the network; None leaves PyTorch's own number.
        load: that load and prepare.
        save: that bring masks to their grids, measure and write.
        in_turns: whether those around the network rest while it runs, for it takes every core.
    """

    network: int | None
    load: int
    save: int
    in_turns: bool = False


def choose_threads(request: PredictRequest, *, on_cpu: bool) -> Threads:
    """Share the processor's cores between the network and what goes on around it.

    Args:
        request: whose numbers go before.
        on_cpu: whether the network runs on the processor.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if on_cpu and (request.threads or torch.get_num_threads()) >= cores:
        return Threads(request.threads, request.workers or cores, save=max(1, cores // 2), in_turns=True)
    load = request.workers or (max(1, cores // 8) if on_cpu else max(1, min(8, cores - 2)))
    return Threads(request.threads, load, save=max(1, load // 2))


class Run:
    """Segments tasks and writes each to the journal as soon as its files are complete.

    Args:
        request: the options.
        segmenter: the bundle.
        sentences: finds the sentence of a case.
        journal: open.
        on_case: called with "done" or "failed" after each case, from any thread.
    """

    def __init__(
        self,
        request: PredictRequest,
        segmenter: Any,
        sentences: Sentences,
        journal: Journal,
        *,
        on_case: Callable[[str], None],
    ) -> None:
        self.request, self.segmenter, self.sentences = request, segmenter, sentences
        self.journal, self.on_case = journal, on_case
        self.threads = choose_threads(request, on_cpu=segmenter.info.device == "cpu")
        self.gate = Gate()

    def __call__(self, tasks: Sequence[Task]) -> None:
        """Segment every task.

        Raises:
            PredictError: when a result cannot be written, as on a full disk.
            KeyboardInterrupt: passed on, after what was begun is saved.
        """
        batch, begin = self.request.batch, engine.use_one_thread
        with ExitStack() as stack:
            stack.enter_context(engine.network_threads(self.threads.network))
            saver = stack.enter_context(
                Saver(
                    workers=self.threads.save,
                    limit=SAVE_LIMIT,
                    waiting=4 * batch,
                    begin=begin,
                    gate=self.gate,
                )
            )
            loader = stack.enter_context(
                Loader(
                    self._load,
                    tasks,
                    workers=self.threads.load,
                    ahead=2 * batch + self.threads.load,
                    limit=LOAD_LIMIT,
                    size=lambda ready: engine.size_of(ready.prepared),
                    begin=begin,
                    gate=self.gate,
                )
            )
            for cases in batches(self._loaded(loader), batch):
                self._segment(cases, saver)

    def _load(self, task: Task) -> Ready:
        sentence = self.sentences.of(task.position, task.case)
        return Ready(
            task,
            sentence,
            engine.prepare(self.segmenter, task.case, sentence, modality=self.request.modality),
        )

    def _loaded(self, loader: Loader[Task, Ready]) -> Iterator[Ready]:
        for task, result in loader:
            if isinstance(result, Exception):
                self._failed(task, result)
            else:
                yield result

    def _segment(self, cases: list[Ready], saver: Saver) -> None:
        """Run a batch; when it fails, each of its cases alone, to find the one that is to blame."""
        try:
            with self.gate.closed() if self.threads.in_turns else nullcontext():
                outputs = engine.run_network(self.segmenter, [ready.prepared for ready in cases])
        except (RuntimeError, ValueError, MemoryError) as error:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            if len(cases) == 1:
                self._failed(cases[0].task, error)
                return
            for ready in cases:
                self._segment([ready], saver)
            return
        for ready, logits in zip(cases, outputs, strict=True):
            held = engine.size_of(ready.prepared) + logits.nbytes
            saver.submit(self._save, ready, logits, size=held)

    def _save(self, ready: Ready, logits: Tensor) -> None:
        limit = self.request.previews
        try:
            result = engine.write_result(
                engine.finish(self.segmenter, ready.prepared, logits),
                ready.sentence,
                self.request.output,
                pictured=limit is None or ready.task.position < limit,
                keep_flagged=limit != -1,
            )
        except OSError as error:
            if isinstance(error, FileNotFoundError) or error.errno is None:
                self._failed(ready.task, error)
                return
            raise PredictError(
                f"{self.request.output} must be writable, got: {error.strerror}: run again when it is"
            ) from error
        except Exception as error:  # whatever a file makes a writer raise; other cases go on
            self._failed(ready.task, error)
            return
        self._write(ready.task, DONE, **result)

    def _failed(self, task: Task, error: Exception) -> None:
        self._write(task, FAILED, error=one_line(error))

    def _write(self, task: Task, status: str, **content: Any) -> None:
        self.journal.write({"id": task.case.id, "place": task.case.place, "status": status, **content})
        self.on_case(status)


def batches(cases: Iterator[Ready], size: int) -> Iterator[list[Ready]]:
    """Yield pictures `size` at a time, and volumes alone."""
    batch: list[Ready] = []
    for ready in cases:
        if engine.is_volume(ready.prepared):
            yield [ready]
            continue
        batch.append(ready)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def one_line(error: Exception) -> str:
    """Say an error in one line, without the folders of the machine."""
    text = " ".join(str(error).split()) or "no reason given"
    if not isinstance(error, ValueError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) <= LONGEST_ERROR else f"{text[:LONGEST_ERROR]}…"
