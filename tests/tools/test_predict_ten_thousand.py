"""tools.predict on ten thousand pictures with twenty corrupt ones: killed twice, resumed, in flat memory."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

CASES, CORRUPT = 10_000, 20
KILLED_AT = (3_000, 6_500)  # cases in the journal
WARM_UP = 500  # cases of a process before its memory must be flat
TOLERANCE = 0.10
BATCH = 16

pytestmark = pytest.mark.slow


def png(seed: int) -> bytes:
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64] / 64
    spot = 150 * np.exp(-((rows - generator.random()) ** 2 + (columns - generator.random()) ** 2) / 0.05)
    stream = io.BytesIO()
    Image.fromarray((spot + generator.random((64, 64)) * 60).astype(np.uint8)).save(stream, format="PNG")
    return stream.getvalue()


def corrupt(whole: bytes, kind: int) -> bytes:
    """One of five ways in which a file is no picture."""
    kinds = (b"", whole[: len(whole) // 2], b"id,text\n1,left\n", os.urandom(500), whole[:40] + b"\0" * 400)
    return kinds[kind % len(kinds)]


def make_inputs(folder: Path) -> set[str]:
    """Write the pictures in ten folders; return the names of the corrupt ones."""
    pictures = [png(seed) for seed in range(40)]
    bad = {(index * CASES) // CORRUPT + 7 for index in range(CORRUPT)}
    for part in range(10):
        (folder / f"{part}").mkdir(parents=True)
    for index in range(CASES):
        content = pictures[index % len(pictures)]
        content = corrupt(content, sorted(bad).index(index)) if index in bad else content
        (folder / f"{index // 1000}" / f"case{index:05}.png").write_bytes(content)
    return {f"{index // 1000}_case{index:05}" for index in bad}


def resident_kib(process: subprocess.Popen[bytes]) -> int:
    """Memory that a process holds, 0 when it has ended."""
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


class Journal:
    """Counts the lines of a journal that another process writes."""

    def __init__(self, path: Path) -> None:
        self.path, self.offset, self.count = path, 0, 0

    def lines(self) -> int:
        if self.path.exists():
            with self.path.open("rb") as file:
                file.seek(self.offset)
                content = file.read()
            self.offset += len(content)
            self.count += content.count(b"\n")
        return self.count


def run(command: list[str], part: Path, *, kill_at: int | None) -> tuple[int, list[int]]:
    """Run until the end or until the journal is long enough; return the status and the memory after the warm-up."""
    repository = Path(__file__).resolve().parents[2]
    journal = Journal(part)
    before = journal.lines()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, cwd=repository, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    memory = []
    while process.poll() is None:
        count = journal.lines()
        if count - before >= WARM_UP:
            memory.append(resident_kib(process))
        if kill_at is not None and count >= kill_at:
            process.kill()
        time.sleep(0.05)
    return process.wait(), [value for value in memory if value]


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
@pytest.mark.timeout(1800)
def test_ten_thousand_cases_survive_two_kills_in_flat_memory(tmp_path: Path) -> None:
    bad = make_inputs(tmp_path / "in")
    command = tiny_command(tmp_path)
    part = tmp_path / "out" / "journal" / "part-0-of-1.jsonl"
    memory = []
    for kill_at in KILLED_AT:
        status, samples = run(command, part, kill_at=kill_at)
        assert status == -9
        memory.append(samples)
    status, samples = run(command, part, kill_at=None)
    memory.append(samples)
    assert status == 3  # some cases failed
    check_journal(part, bad)
    check_files(tmp_path / "out", bad)
    for samples in memory:
        assert len(samples) > 20
        middle = float(np.median(samples))
        print(f"memory after {WARM_UP} cases: {min(samples)} to {max(samples)} KiB, median {middle:.0f}")
        assert max(samples) <= middle * (1 + TOLERANCE), samples
        assert min(samples) >= middle * (1 - TOLERANCE), samples


def tiny_command(folder: Path) -> list[str]:
    """A bundle with a small network, its weights in a file."""
    from common.inference import load_bundle

    source = Path(__file__).resolve().parents[2] / "bundles" / "baseline_segmentation"
    bundle = folder / source.name
    shutil.copytree(source / "configs", bundle / "configs")
    (folder / "tiny.json").write_text('{"image_size": 64, "width": 0.125}', encoding="utf-8")
    overlays = ["zone_unet", "light", str(folder / "tiny.json")]
    with pytest.warns(UserWarning, match="runs untrained"):
        network = load_bundle(bundle, overlays=overlays, allow_random=True, device="cpu").network
    torch.save(network.state_dict(), folder / "model.pt")
    command = [
        sys.executable,
        "-m",
        "tools.predict",
        str(bundle),
        str(folder / "in"),
        "--text",
        "lower left lung",
    ]
    command += ["--output", str(folder / "out"), "--weights", str(folder / "model.pt"), "--device", "cpu"]
    return [*command, "--batch", str(BATCH), "--previews", "none", "--overlay", *overlays]


def check_journal(part: Path, bad: set[str]) -> None:
    """Every case has one line, and the failed ones are the corrupt ones."""
    lines = [json.loads(text) for text in part.read_text("utf-8").splitlines()]
    counts = Counter(line["id"] for line in lines)
    assert len(counts) == CASES
    assert set(counts.values()) == {1}
    assert {line["id"] for line in lines if line["status"] == "failed"} == bad


def check_files(out: Path, bad: set[str]) -> None:
    """Every other case has a complete mask, and the tables have every case."""
    masks = sorted(path.name for path in (out / "predictions").iterdir())
    assert len(masks) == CASES - CORRUPT
    assert not bad & {name.removesuffix(".png") for name in masks}
    for name in masks:
        with Image.open(out / "predictions" / name) as mask:
            mask.load()
            assert mask.size == (64, 64)
    with (out / "cases.csv").open(encoding="utf-8", newline="") as file:
        assert sum(1 for _ in csv.DictReader(file)) == CASES - CORRUPT
    with (out / "failures.csv").open(encoding="utf-8", newline="") as file:
        failures = list(csv.DictReader(file))
    assert {row["id"] for row in failures} == bad
    assert all(row["error"] and row["file"].endswith(".png") for row in failures)
    assert (out / "report.html").stat().st_size < 2_000_000
