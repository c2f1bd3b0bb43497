"""The stock server of MONAI Label with packed bundles, started as a process of its own and asked over HTTP."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from .client import LabelClient

APP = Path("monailabel", "sample-apps", "monaibundle")  # in the environment, where pip put it
START_SECONDS = 180.0
LOG_TAIL = 6000  # characters


class LabelServer:
    """Lay out an app folder, start `monailabel` on a free port of this machine, and end it.

    The bundles are copied: training writes into them. Use it as a context manager; `client` talks to it.

    Args:
        python: interpreter of the environment that `install.sh` made.
        folder: working folder; the app goes to `app/`, the log to `server.log`.
        studies: folder of the images; labels are saved below it.
        bundles: packed bundles by the name under which the server offers them; the name must contain
            "segmentation", by which MONAI Label knows the type.
        environment: variables for the server besides this process's.

    Raises:
        ValueError: when a name does not contain "segmentation" or a bundle is not packed.
    """

    def __init__(
        self,
        *,
        python: Path,
        folder: Path,
        studies: Path,
        bundles: Mapping[str, Path],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        for name, bundle in bundles.items():
            if "segmentation" not in name:
                raise ValueError(f"the name of a bundle must contain segmentation, got {name!r}")
            if not (bundle / "scripts" / "common").is_dir():
                raise ValueError(f"{bundle} must be a packed bundle, got a folder without scripts/common")
        self.python, self.studies, self.bundles = python, studies, dict(bundles)
        self.app, self.log = folder / "app", folder / "server.log"
        self.environment = {**os.environ, **(environment or {})}
        self.client = LabelClient(f"http://127.0.0.1:{free_port()}")
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LabelServer:
        """Start the server and wait until it answers."""
        self.lay_out()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command(),
                cwd=self.app.parent,
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the server, trainings included."""
        self.stop()

    def lay_out(self) -> None:
        """Copy the stock app out of the environment and the bundles into it."""
        shutil.copytree(self.python.parents[1] / APP, self.app)
        for name, bundle in self.bundles.items():
            shutil.copytree(bundle, self.app / "model" / name)

    def command(self) -> list[str]:
        """Return the command line of the server."""
        host, _, port = self.client.address.removeprefix("http://").partition(":")
        options = {"models": ",".join(self.bundles), "sam2": "false", "zoo_source": "local"}
        settings = [part for name, value in options.items() for part in ("--conf", name, value)]
        folders = ["--app", str(self.app), "--studies", str(self.studies)]
        program = [str(self.python), "-m", "monailabel.main", "start_server"]
        return [*program, *folders, *settings, "--host", host, "--port", port]

    def log_tail(self) -> str:
        """Return the end of the server's log."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]

    def stop(self) -> None:
        """End the server and the processes that it started."""
        if self._process is None:
            return
        for wanted in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, wanted)
            except ProcessLookupError:
                break
            try:
                self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                continue
        self._process.wait()
        self._process = None

    def _wait(self) -> dict[str, Any]:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError(f"MONAI Label ended while it started:\n{self.log_tail()}")
            try:
                return self.client.info()
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        raise TimeoutError(f"MONAI Label did not answer within {START_SECONDS:g} s:\n{self.log_tail()}")


def free_port() -> int:
    """Return a port of this machine that nothing listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
