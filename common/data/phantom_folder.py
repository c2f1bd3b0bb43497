"""The folder of a made-up data set, which appears when it is complete."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """Yield a hidden folder beside `output` that becomes it if the block ends well, and vanishes if it does not.

    Args:
        output: the folder to create; it must be absent or empty.

    Yields:
        The folder to write into.

    Raises:
        FileExistsError: when `output` is a file or a folder that is not empty.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise FileExistsError(
            f"output must be absent or empty, got {output}: remove it or name another folder"
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".partial", dir=output.parent))
    try:
        yield partial
        partial.chmod(0o755)
        if output.is_dir():
            output.rmdir()
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
