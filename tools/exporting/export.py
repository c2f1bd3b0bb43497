"""Write a network in other formats, each compared in its own runtime with the network itself."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.experiments.provenance import machine, versions
from tools.packing import relaid

from .comparing import largest_difference, milliseconds_per_image
from .formats import REGISTRY, Format, Traceable, quiet
from .opened import OpenedModel, opened_model
from .request import ExportError, ExportRequest
from .sidecar import sidecar
from .torchscript import TOLERANCE

if TYPE_CHECKING:
    from torch import Tensor

    Run = Callable[[Tensor, Tensor], Tensor]

EAGER = "eager"
EXPORT_PACKAGES = ("onnx", "onnxruntime", "onnxscript")
CACHED = "a sentence that it has seen costs it nothing: features of the frozen text encoder are kept"


@dataclass(kw_only=True)
class Row:
    """One format, or the network itself, of a measurement.

    Attributes:
        format: its name; "eager" for the network.
        runtime: what ran it, and where.
        file: that was written; None: nothing was.
        megabytes: of the file, or of the network's parameters and buffers; 1 MB is 1 000 000 bytes.
        seconds: to export and save.
        difference: largest absolute difference of logits to the network's.
        milliseconds: that passed for an image, median, by the size of the batch.
        processor_milliseconds: the same of processor time, which other work on the machine hardly changes.
        sha256: of the file.
        note: why nothing was written, or what else a reader should know.
    """

    format: str
    runtime: str
    file: str | None = None
    megabytes: float | None = None
    seconds: float | None = None
    difference: float | None = None
    milliseconds: dict[str, float] = field(default_factory=dict)
    processor_milliseconds: dict[str, float] = field(default_factory=dict)
    sha256: str | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Exports:
    """What came of a request.

    Attributes:
        name: of the files, without suffix.
        summary: network, sizes of its inputs, weights, machine, threads and versions.
        rows: the network itself, then every format that was asked for.
        sidecar: the file that says how to feed the others; None: nothing was written.
    """

    name: str
    summary: dict[str, Any]
    rows: tuple[Row, ...]
    sidecar: Path | None

    @property
    def complete(self) -> bool:
        """Whether every format that was asked for was written."""
        return all(row.file for row in self.rows if row.format != EAGER)

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` writes."""
        return {"name": self.name, **self.summary, "rows": [asdict(row) for row in self.rows]}


def export_model(request: ExportRequest, *, on_step: Callable[[str], None] = lambda step: None) -> Exports:
    """Write ``<output>/<name>.{ts,onnx,pt2}`` and ``<output>/<name>.json``.

    A file appears only after it was read again in its own runtime and gave the network's logits within 1e-4. A format
    that fails is a row with the reason; the others go on.

    Args:
        request: what is to be exported.
        on_step: told every step, from `steps_of(request)`, before it begins.

    Raises:
        ExportError: when the request cannot be met at all, or a file is in the way.
        PackError: when bundle or overlays cannot be read.
    """
    request.check()
    on_step("build the network")
    with opened_model(request) as model:
        _check_places(request, model)
        request.output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".exporting_", dir=request.output) as place:
            return _exports(request, model, Path(place), on_step)


def steps_of(request: ExportRequest) -> list[str]:
    """Return the steps of a request in order."""
    return ["build the network", *request.formats, "measure latencies"]


def _exports(
    request: ExportRequest, model: OpenedModel, place: Path, on_step: Callable[[str], None]
) -> Exports:
    traceables = {device: _traceable(model, device) for device in ("cpu", request.device)}
    eager = traceables[request.device]
    rows = [Row(format=EAGER, runtime=_runtime("torch", request.device), megabytes=_megabytes(model.network))]
    rows[0].note = CACHED if _keeps_features(model.network) else ""
    runs: dict[str, tuple[Run, str]] = {EAGER: (eager.network, eager.device)}
    for name in request.formats:
        on_step(name)
        kind = REGISTRY[name]
        traceable = traceables["cpu" if kind.on_cpu else request.device]
        row = Row(format=name, runtime=_runtime(kind.runtime, traceable.device))
        run = _exported(kind, traceable, place / (model.name + kind.suffix), row)
        rows.append(row)
        if run is not None:
            runs[name] = (run, traceable.device)
    on_step("measure latencies")
    batches = sorted({1, request.batch})
    times = milliseconds_per_image(runs, model.image, model.text, batches=batches, repeats=request.repeats)
    for row in rows:
        if row.format in times:
            row.milliseconds = times[row.format].milliseconds
            row.processor_milliseconds = times[row.format].processor_milliseconds
    beside = _published(request, model, place, rows, eager)
    return Exports(name=model.name, summary=_summary(model), rows=tuple(rows), sidecar=beside)


def _traceable(model: OpenedModel, device: str) -> Traceable:
    import copy

    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ExportError(f"the device must be one of this machine, got {device!r} (--device)") from error
    network = model.network if device == "cpu" else copy.deepcopy(model.network).to(device)
    return Traceable(network=network, image=model.image.to(device), text=model.text.to(device), device=device)


def _exported(kind: Format, model: Traceable, path: Path, row: Row) -> Run | None:
    """Write, read and compare one format; fill its row, and leave no file where the comparison fails."""
    from common.checks import file_sha256  # imported here: `--help` should not load PyTorch

    missing = kind.missing()
    if missing:
        row.note = f"needs {', '.join(missing)}: pip install 'text-guided-segmentation-bundles[export]'"
        return None
    try:
        with quiet():
            started = time.perf_counter()
            before = model.export_seconds
            kind.write(model, path)
            shared = before if kind.exported else 0.0  # what an earlier format did for this one, too
            row.seconds = round(time.perf_counter() - started + shared, 1)
            run = kind.read(path, model.device)
            row.difference = largest_difference(run, model.network, model.image, model.text)
    except Exception as error:  # whatever an exporter raises is a finding
        path.unlink(missing_ok=True)
        row.note = first_line(error)
        return None
    if row.difference > TOLERANCE:
        path.unlink()
        row.note = f"the logits must differ by at most {TOLERANCE:g}, got {row.difference:.2g}: not written"
        return None
    row.megabytes, row.sha256, row.file = round(path.stat().st_size / 1e6, 2), file_sha256(path), path.name
    return run


def first_line(error: BaseException) -> str:
    """Return kind and first line of the first cause of an error."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300] if lines else 'no message'}"


def _published(
    request: ExportRequest, model: OpenedModel, place: Path, rows: Sequence[Row], eager: Traceable
) -> Path | None:
    """Move what was written into place, the sidecar beside it."""
    written = [row for row in rows if row.file]
    if not written:
        return None
    files = {
        row.format: {
            "file": row.file,
            "sha256": row.sha256,
            "runtime": row.runtime,
            "difference": row.difference,
        }
        for row in written
    }
    content = sidecar(model, uses_text=_uses_text(eager), files=files)
    name = f"{model.name}.json"
    (place / name).write_text(relaid("{}", content), encoding="utf-8", newline="\n")
    for file in [*(str(row.file) for row in written), name]:
        (place / file).replace(request.output / file)
    return request.output / name


def _check_places(request: ExportRequest, model: OpenedModel) -> None:
    names = [model.name + REGISTRY[name].suffix for name in request.formats]
    there = [name for name in [*names, f"{model.name}.json"] if (request.output / name).exists()]
    if there and not request.overwrite:
        raise ExportError(
            f"{request.output} must not hold {', '.join(there)} yet: --overwrite, or another --output"
        )


def _uses_text(model: Traceable) -> bool:
    import torch

    with torch.inference_mode():
        image = model.image[:1]
        return not torch.equal(model.network(image, model.text[:1]), model.network(image, model.text[1:2]))


def _keeps_features(network: Any) -> bool:
    backbones = [getattr(module, "backbone", None) for module in network.modules()]
    return any(getattr(backbone, "cache_size", 0) > 0 for backbone in backbones)


def _megabytes(network: Any) -> float:
    tensors = network.state_dict().values()
    return round(sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6, 2)


def _runtime(name: str, device: str) -> str:
    return f"{name}, {device}"


def _summary(model: OpenedModel) -> dict[str, Any]:
    import torch

    installed: Mapping[str, str] = {name: _version(name) for name in EXPORT_PACKAGES}
    return {
        "bundle": model.source.name,
        "version": model.source.version,
        "overlays": list(model.overlays),
        "network": type(model.network).__name__,
        "image_size": list(model.image.shape[2:]),
        "max_tokens": int(model.text.shape[2]),
        "weights": model.weights,
        "random_weights": model.weights is None,
        "machine": machine(),
        "threads": torch.get_num_threads(),
        "versions": {**versions(), **{name: version for name, version in installed.items() if version}},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
