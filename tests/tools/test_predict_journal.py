"""tools.prediction: the journal that survives kills, the stages with bounded memory, and the tables."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from tools.prediction.inputs import Case
from tools.prediction.journal import DONE, FAILED, Journal, drop_torn_line, locked, read_entries, read_lines
from tools.prediction.leftovers import remove_leftovers
from tools.prediction.report import write_report
from tools.prediction.request import PredictError, Shard
from tools.prediction.results import ordered, write_tables
from tools.prediction.stages import Budget, Loader, Saver

ROW = {"side": "left", "share": 0.25, "text": "=1+1", "warnings": "one; two", "side_agreement": 1.0}


def line(name: str, status: str = DONE, **values: Any) -> dict[str, Any]:
    content = (
        {"row": {"id": name, **ROW}, "files": {"mask": f"predictions/{name}.png"}, "flagged": False}
        if status == DONE
        else {"error": "cannot be read"}
    )
    return {"id": name, "place": f"in/{name}.png", "status": status, **content, **values}


class TestJournal:
    def test_gives_back_what_was_written(self, tmp_path: Path) -> None:
        with Journal(tmp_path, Shard()) as journal:
            journal.write(line("a"))
            journal.write(line("b", FAILED))
        entries = read_entries(tmp_path)
        assert {name: entry.status for name, entry in entries.items()} == {"a": DONE, "b": FAILED}
        assert entries["b"].read() == line("b", FAILED)
        assert [found["id"] for found in read_lines([entries["b"], entries["a"]])] == ["b", "a"]

    @pytest.mark.parametrize("torn", [b"{", b'{"id": "c", "place', b'{"id": "c"}', b"\xff" * 70_000])
    def test_drops_a_torn_line_and_goes_on(self, tmp_path: Path, torn: bytes) -> None:
        with Journal(tmp_path, Shard()) as journal:
            journal.write(line("a"))
            path = journal.path
        with path.open("ab") as file:
            file.write(torn)
        assert list(read_entries(tmp_path)) == ["a"]
        with Journal(tmp_path, Shard()) as journal:
            journal.write(line("c"))
        assert list(read_entries(tmp_path)) == ["a", "c"]

    def test_drops_a_file_of_one_torn_line(self, tmp_path: Path) -> None:
        (tmp_path / "part").write_bytes(b"{")
        drop_torn_line(tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == b""

    def test_takes_the_last_line_of_a_case(self, tmp_path: Path) -> None:
        with Journal(tmp_path, Shard()) as journal:
            journal.write(line("a", FAILED))
            journal.write(line("a"))
        assert read_entries(tmp_path)["a"].status == DONE

    def test_joins_the_parts(self, tmp_path: Path) -> None:
        for index in range(2):
            with Journal(tmp_path, Shard(index, 2)) as journal:
                journal.write(line(f"case{index}"))
        assert sorted(read_entries(tmp_path)) == ["case0", "case1"]

    def test_a_success_beats_a_failure_of_another_part(self, tmp_path: Path) -> None:
        for index, status in enumerate((FAILED, DONE, FAILED)):
            with Journal(tmp_path, Shard(index, 3)) as journal:
                journal.write(line("a", status))
        assert read_entries(tmp_path)["a"].status == DONE

    @pytest.mark.parametrize("content", [b"[]\n", b"no json\n", b'{"id": "a"}\n'])
    def test_refuses_another_file(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "journal").mkdir()
        (tmp_path / "journal" / "part-0-of-1.jsonl").write_bytes(content)
        with pytest.raises(PredictError, match=r"part-0-of-1\.jsonl, line 1 must be"):
            read_entries(tmp_path)

    def test_is_written_by_one_process(self, tmp_path: Path) -> None:
        program = (
            "import sys; from pathlib import Path; from tools.prediction.journal import locked\n"
            "try:\n    locked(Path(sys.argv[1]))\nexcept ValueError as error:\n    print(error)"
        )
        with locked(tmp_path / "journal" / "part.lock"):
            command = [sys.executable, "-c", program, str(tmp_path / "journal" / "part.lock")]
            result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "must be written by one process" in result.stdout

    def test_refuses_to_write_when_closed(self, tmp_path: Path) -> None:
        with Journal(tmp_path, Shard()) as journal:
            pass
        with pytest.raises(RuntimeError, match="must be open"):
            journal.write(line("a"))


class TestLoader:
    @staticmethod
    def load(items: list[int], function: Any, **options: Any) -> list[Any]:
        settings = {"workers": 3, "ahead": 4, "limit": 10**9, "size": lambda result: 1, **options}
        with Loader(function, items, **settings) as loader:
            return list(loader)

    def test_keeps_the_order(self) -> None:
        def slow(item: int) -> int:
            time.sleep(0.002 * (item % 3))
            return item * item

        assert self.load(list(range(20)), slow) == [(item, item * item) for item in range(20)]

    def test_gives_errors_back(self) -> None:
        def fail(item: int) -> int:
            raise ValueError(f"no {item}")

        ((item, error),) = self.load([1], fail)
        assert item == 1
        assert isinstance(error, ValueError)

    def test_holds_no_more_than_its_bound(self) -> None:
        begun: list[int] = []
        with Loader(
            lambda item: begun.append(item) or item,
            range(1000),
            workers=2,
            ahead=100,
            limit=10,
            size=lambda _: 10,
        ) as loader:
            results = iter(loader)
            next(results)
            time.sleep(0.1)
            count = len(begun)
            assert [result for _, result in results] == list(range(1, 1000))
        assert count <= 4  # one taken, one in each thread, one that was let in before

    def test_begins_no_more_than_it_may(self) -> None:
        begun: list[int] = []
        with Loader(
            lambda item: begun.append(item), range(1000), workers=2, ahead=5, limit=10**9, size=lambda _: 1
        ) as loader:
            next(iter(loader))
            time.sleep(0.05)
        assert len(begun) <= 6

    def test_can_be_left_early(self) -> None:
        with Loader(lambda item: item, range(100), workers=2, ahead=50, limit=1, size=lambda _: 1) as loader:
            next(iter(loader))
        assert threading.active_count() < 50


class TestSaver:
    def test_runs_everything_before_it_ends(self) -> None:
        done: list[int] = []
        with Saver(workers=2, limit=100, waiting=4) as saver:
            for item in range(50):
                saver.submit(done.append, item, size=1)
        assert sorted(done) == list(range(50))

    def test_raises_what_a_job_raised(self) -> None:
        def fail() -> None:
            raise OSError("disk full")

        def submit() -> None:
            with Saver(workers=1, limit=10, waiting=1) as saver:
                for _ in range(10):
                    saver.submit(fail, size=1)

        with pytest.raises(OSError, match="disk full"):
            submit()

    def test_lets_few_jobs_wait(self) -> None:
        gate = threading.Event()
        submitted: list[int] = []

        def fill(saver: Saver) -> None:
            for item in range(10):
                saver.submit(gate.wait, size=1)
                submitted.append(item)

        with Saver(workers=1, limit=100, waiting=3) as saver:
            thread = threading.Thread(target=fill, args=(saver,))
            thread.start()
            time.sleep(0.2)
            count = len(submitted)
            gate.set()
            thread.join()
        assert count == 3

    def test_budget_lets_waiters_through_when_closed(self) -> None:
        budget = Budget(1)
        budget.add(5)
        thread = threading.Thread(target=budget.wait)
        thread.start()
        budget.close()
        thread.join(timeout=5)
        assert not thread.is_alive()


class TestLeftovers:
    def test_removes_unfinished_files_of_its_cases(self, tmp_path: Path) -> None:
        folder = tmp_path / "predictions"
        folder.mkdir()
        kept = {"a.png", ".12.b.png", ".notes"}
        for name in (*kept, ".12.a.png", ".a.seg.dcm.77.part", ".12.a.nii.gz"):
            (folder / name).touch()
        assert remove_leftovers(tmp_path, ["a", "c"]) == 3
        assert {path.name for path in folder.iterdir()} == kept


class TestTables:
    RECORD: dict[str, Any] = {  # noqa: RUF012 - read alone
        "bundle": {
            "title": "A <bundle>",
            "name": "b",
            "version": "1",
            "network": "N",
            "image_size": [64, 64],
            "weights_sha256": None,
            "laterality": "image",
        },
        "arguments": {"text": None, "texts": "texts.csv", "text_from": None, "overlays": ["light"]},
        "versions": {"python": "3"},
    }

    def entries(self, folder: Path, count: int) -> list[Any]:
        with Journal(folder, Shard()) as journal:
            for number in range(count):
                journal.write(line(f"c{number}", FAILED if number % 10 == 3 else DONE))
        cases = [Case(f"c{number}", (), "") for number in reversed(range(count))]
        return ordered(cases, read_entries(folder))

    def test_are_in_the_order_of_the_cases(self, tmp_path: Path) -> None:
        totals = write_tables(tmp_path, self.entries(tmp_path, 10))
        with (tmp_path / "cases.csv").open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["id"] for row in rows] == [f"c{number}" for number in (9, 8, 7, 6, 5, 4, 2, 1, 0)]
        assert rows[0]["mask"] == "predictions/c9.png"
        assert rows[0]["text"] == "'=1+1"  # no formula for a spreadsheet
        lines = [json.loads(text) for text in (tmp_path / "cases.jsonl").read_text("utf-8").splitlines()]
        assert lines[0]["text"] == "=1+1"
        with (tmp_path / "failures.csv").open(encoding="utf-8", newline="") as file:
            assert list(csv.DictReader(file)) == [
                {"id": "c3", "file": "in/c3.png", "error": "cannot be read"}
            ]
        assert (totals.done, totals.failed, totals.warned) == (9, 1, 9)
        assert totals.warnings == {"one": 9, "two": 9}
        assert totals.sums == {"side_agreement": (9.0, 9)}

    def test_report_stays_small_with_many_cases(self, tmp_path: Path) -> None:
        entries = self.entries(tmp_path, 5000)
        page = write_report(tmp_path, entries, self.RECORD, write_tables(tmp_path, entries))
        html = page.read_text(encoding="utf-8")
        assert len(html) < 400_000
        assert "A &lt;bundle&gt;" in html
        assert "the first 500 of 4500" in html
        assert "200 of 500" in html
        assert "http" not in html.replace("http-equiv", "")
