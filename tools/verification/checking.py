"""A check: a function that finds problems, the name that a reader sees, and the remedy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum

from tools.packing import PackError

from .opened import OpenedBundle

SHOWN = 5  # problems of one check in its detail


class Status(str, Enum):
    """How a check ended; only `FAIL` fails the bundle."""

    PASS = "pass"
    WARNING = "warning"
    FAIL = "fail"
    SKIPPED = "skipped"


class Skipped(Exception):  # noqa: N818 - a check that does not apply is no error
    """Raised by a check that does not apply, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What one check found.

    Attributes:
        name: of the check.
        status: how it ended.
        detail: the problems, the reason of a skip, or what was seen.
        fix: what to do; empty unless there is a problem.
    """

    name: str
    status: Status
    detail: str = ""
    fix: str = ""

    @classmethod
    def of(
        cls, name: str, problems: Sequence[str], *, fix: str, status: Status = Status.FAIL, seen: str = ""
    ) -> Result:
        """A pass without problems, else `status` with the first of them and the fix."""
        if not problems:
            return cls(name=name, status=Status.PASS, detail=seen)
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        return cls(name=name, status=status, detail="; ".join(problems[:SHOWN]) + more, fix=fix)


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check that reads files alone.

    Attributes:
        name: that a reader sees.
        find: yields a line for every problem, or raises `Skipped`.
        fix: what to do about a problem.
        status: of a bundle with problems.
    """

    name: str
    find: Callable[[OpenedBundle], Iterable[str]]
    fix: str
    status: Status = Status.FAIL

    def __call__(self, bundle: OpenedBundle) -> Result:
        """Return what the check finds in `bundle`."""
        try:
            problems = list(self.find(bundle))
        except Skipped as reason:
            return Result(name=self.name, status=Status.SKIPPED, detail=str(reason))
        except PackError as error:  # a file that another check already reports as missing or as no JSON
            return Result(name=self.name, status=Status.SKIPPED, detail=f"could not be read: {error}")
        return Result.of(self.name, problems, fix=self.fix, status=self.status)


def check(
    name: str, *, fix: str, status: Status = Status.FAIL
) -> Callable[[Callable[[OpenedBundle], Iterable[str]]], Check]:
    """Make a check of the function below."""
    return lambda find: Check(name=name, find=find, fix=fix, status=status)


def failures(results: Iterable[Result]) -> list[Result]:
    """Return the results that fail the bundle."""
    return [result for result in results if result.status is Status.FAIL]
