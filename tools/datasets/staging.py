"""Write a folder in a hidden place beside it, and let it appear when it is complete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .source import SourceError


@contextmanager
def staged_folder(output: Path, *, source: Path | None = None, overwrite: bool = False) -> Iterator[Path]:
    """Yield a new folder that becomes ``output`` if the block ends well, and vanishes if it does not.

    Args:
        output: the folder to write; must be new, empty, or a data set folder with ``overwrite``.
        source: a folder that the output must not lie in, nor hold.
        overwrite: replace an existing data set folder.

    Yields:
        The folder to write into.

    Raises:
        SourceError: if ``output`` is not free, or overlaps the source.
    """
    output = output.absolute()
    if source is not None:
        _check_apart(output, source)
    _check_free(output, overwrite=overwrite)
    output.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    try:
        yield folder
        folder.chmod(0o755)
        _replace(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _replace(folder: Path, output: Path) -> None:
    """Put the folder in the place of the output, which is away only between two renames."""
    if not output.exists():
        folder.rename(output)
        return
    before = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".before", dir=output.parent))
    output.rename(before / output.name)
    try:
        folder.rename(output)
    except OSError:
        (before / output.name).rename(output)
        raise
    finally:
        shutil.rmtree(before)


def _check_apart(output: Path, source: Path) -> None:
    here, there = output.resolve(), source.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        raise SourceError(
            f"output must lie outside of the source {source}, got {output}: the source is never changed"
        )


def _check_free(output: Path, *, overwrite: bool) -> None:
    if not output.exists():
        return
    if not output.is_dir():
        raise SourceError(f"output must be a folder, got the file {output}")
    if not any(output.iterdir()):
        return
    if not overwrite:
        raise SourceError(
            f"output must be new or empty, got {output}, which is not: choose another, or give --overwrite"
        )
    if not (output / "dataset.json").is_file():
        raise SourceError(
            f"--overwrite must find a dataset.json to replace, got {output}, without one: empty it yourself"
        )
