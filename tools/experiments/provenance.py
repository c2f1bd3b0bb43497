"""On what, with which versions and from which commit something was run."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("torch", "monai", "pytorch-ignite", "transformers", "numpy")
SOURCES = ("bundles", "common", "tools", "pyproject.toml", "constraints.txt")


def machine() -> dict[str, str | int]:
    """Return the processor, the cores that this process may use, the memory and the system."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    facts: dict[str, str | int] = {"cpu": _cpu_model(), "cores": usable}
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        facts["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)
    gpu = _gpu_models()
    return facts | ({"gpu": gpu} if gpu else {}) | {"system": f"{platform.system()} {platform.machine()}"}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide a result."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def commit(folder: Path) -> str:
    """Return the commit that `folder` is at, with "modified" when its sources differ; "unknown" outside a checkout."""
    name = _output("git", "-C", str(folder), "rev-parse", "--short=12", "HEAD")
    if not name:
        return "unknown"
    changed = _output(
        "git", "-C", str(folder), "status", "--porcelain", "--untracked-files=no", "--", *SOURCES
    )
    return f"{name}, modified" if changed else name


def _cpu_model() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.is_file():
        for line in listing.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def _gpu_models() -> str:
    listing = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()
    return ", ".join(f"{listing.count(name)} x {name}" for name in dict.fromkeys(listing))


def _output(*command: str) -> str:
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
