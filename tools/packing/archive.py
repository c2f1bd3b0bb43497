"""A zip that depends on its files alone."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

FIXED_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can say
PERMISSIONS = 0o100644
UNIX = 3


def write_archive(folder: Path, path: Path) -> None:
    """Write every file of `folder` into a zip below one folder of its name.

    Entries are sorted and bear one time and one set of permissions, and zlib compresses them at its default level, so
    that the same files make the same bytes.

    Args:
        folder: what is archived.
        path: the zip.
    """
    files = sorted((f.relative_to(folder).as_posix(), f) for f in folder.rglob("*") if f.is_file())
    with zipfile.ZipFile(path, "w") as archive:
        for name, file in files:
            entry = zipfile.ZipInfo(f"{folder.name}/{name}", date_time=FIXED_TIME)
            entry.create_system = UNIX
            entry.external_attr = PERMISSIONS << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.file_size = file.stat().st_size  # tells whether the large format is needed
            with file.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)
