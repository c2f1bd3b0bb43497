"""The formats: how each is written, and how its own runtime reads it."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .torchscript import read_traced, write_traced

if TYPE_CHECKING:
    from torch import Tensor, nn

    Run = Callable[[Tensor, Tensor], Tensor]

INPUTS, OUTPUT = ("image", "text"), "logits"


@dataclass(kw_only=True)
class Traceable:
    """A network with an example of its inputs.

    Attributes:
        network: in evaluation mode, on `device`.
        image: `(B, C, H, W)` with B > 1: a batch of one would be taken for a fixed size.
        text: `(B, 2, L)`.
        device: of all three.
        export_seconds: that `program` took.
    """

    network: nn.Module
    image: Tensor
    text: Tensor
    device: str
    export_seconds: float = 0.0
    _program: Any = field(default=None, repr=False)

    def program(self) -> Any:
        """Return the network as `torch.export` sees it, with a dynamic batch; made once for all formats."""
        import torch

        if self._program is None:
            started = time.perf_counter()
            batch = torch.export.Dim("batch", min=1)
            example = (self.image, self.text)
            shapes = ({0: batch}, {0: batch})
            with torch.no_grad():
                self._program = torch.export.export(
                    self.network, example, dynamic_shapes=shapes, strict=False
                )
            self.export_seconds = time.perf_counter() - started
        return self._program


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format.

    Attributes:
        suffix: of its files.
        runtime: what reads them, in words.
        packages: that it needs beyond the project's own.
        on_cpu: whether its runtime always computes on the CPU here.
        exported: whether it begins with `Traceable.program`.
        write: writes a file.
        read: returns the function `(image, text) -> logits` of a file, in a fresh object.
    """

    suffix: str
    runtime: str
    packages: tuple[str, ...] = ()
    on_cpu: bool = False
    exported: bool = False
    write: Callable[[Traceable, Path], None]
    read: Callable[[Path, str], Run]

    def missing(self) -> list[str]:
        """Return the packages that are not installed."""
        return [name for name in self.packages if importlib.util.find_spec(name) is None]


def _write_torchscript(model: Traceable, path: Path) -> None:
    write_traced(model.network, model.image, model.text, path)


def _read_torchscript(path: Path, device: str) -> Run:
    return read_traced(path, device=device)


def _write_pt2(model: Traceable, path: Path) -> None:
    import torch

    torch.export.save(model.program(), path)


def _read_pt2(path: Path, device: str) -> Run:
    import torch

    del device  # the program says where it runs
    module = torch.export.load(path).module()
    return lambda image, text: module(image, text)


def _write_onnx(model: Traceable, path: Path) -> None:
    import torch

    result = torch.onnx.export(
        model.program(), dynamo=True, input_names=list(INPUTS), output_names=[OUTPUT], verbose=False
    )
    if result is None:
        raise ValueError("torch.onnx.export returned no program")
    result.save(path, external_data=False)


def _read_onnx(path: Path, device: str) -> Run:
    import onnxruntime
    import torch

    del device
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    if names != list(INPUTS):
        raise ValueError(f"the exported inputs must be {', '.join(INPUTS)}, got {', '.join(names)}")

    def run(image: Tensor, text: Tensor) -> Tensor:
        feed = dict(zip(INPUTS, (image.numpy(), text.numpy()), strict=True))
        return torch.from_numpy(session.run([OUTPUT], feed)[0])

    return run


REGISTRY = {
    "torchscript": Format(
        suffix=".ts", runtime="torch.jit", write=_write_torchscript, read=_read_torchscript
    ),
    "onnx": Format(
        suffix=".onnx",
        runtime="onnxruntime",
        packages=("onnx", "onnxscript", "onnxruntime"),
        on_cpu=True,
        exported=True,
        write=_write_onnx,
        read=_read_onnx,
    ),
    "pt2": Format(suffix=".pt2", runtime="torch.export", exported=True, write=_write_pt2, read=_read_pt2),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the exporters' warnings, logs and prints to themselves: what matters is in their exceptions."""
    sink = io.StringIO()
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
