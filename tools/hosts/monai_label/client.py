"""What a viewer asks of MONAI Label over HTTP: models, masks, labels and trainings."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SECONDS = 120.0


class LabelClient:
    """Ask a server of MONAI Label.

    Args:
        address: such as ``http://127.0.0.1:8000``.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def info(self) -> dict[str, Any]:
        """Return what the server offers: models, trainers, the state of its images."""
        return dict(json.loads(self._ask("GET", "/info/")))

    def infer(
        self,
        model: str,
        image: str | Path,
        *,
        params: Mapping[str, Any] | None = None,
        output: str = "image",
    ) -> bytes:
        """Segment an image and return the mask's file, or JSON.

        Args:
            model: name of a model in `info`.
            image: name of an image in the server's folder, or a file of this machine, which is sent.
            params: options of the model, such as ``text``; None leaves the defaults.
            output: ``image`` or ``json``.

        Raises:
            RuntimeError: with the status that the server answered, when it is no success.
        """
        fields = {} if params is None else {"params": json.dumps(params).encode()}
        files = {"file": image} if isinstance(image, Path) else {}
        query = {"image": "" if files else str(image), "output": output}
        form = (fields, files) if fields or files else None
        return self._ask("POST", f"/infer/{model}", query=query, form=form)

    def save_label(self, image: str, label: Path, *, tag: str = "final") -> None:
        """Save a mask as the label of an image in the server's folder."""
        self._ask("PUT", "/datastore/label", query={"image": image, "tag": tag}, form=({}, {"label": label}))

    def train(self, model: str, *, seconds: float = 300.0, **options: Any) -> dict[str, Any]:
        """Train a model on the saved labels and wait for the end; return the task's status and last lines.

        Args:
            model: name of a model in `info`.
            seconds: how long to wait.
            options: of the training, such as ``max_epochs`` and ``val_split``.

        Raises:
            TimeoutError: when the training takes longer.
        """
        self._ask("POST", f"/train/{model}", body=json.dumps(options).encode())
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            task = dict(json.loads(self._ask("GET", "/train/")))
            if task["status"] not in ("SUBMITTED", "RUNNING"):
                return task
            time.sleep(0.5)
        raise TimeoutError(f"the training of {model} took longer than {seconds:g} s")

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        form: tuple[Mapping[str, bytes], Mapping[str, Path]] | None = None,
        body: bytes | None = None,
    ) -> bytes:
        kind = "application/json"
        if form is not None:
            body, kind = multipart(*form)
        address = f"{self.address}{path}" + (f"?{urllib.parse.urlencode(query)}" if query else "")
        request = urllib.request.Request(address, data=body, method=method, headers={"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                detail = error.read().decode("utf-8", "replace")[:500]
            raise RuntimeError(f"{method} {path}: status {error.code}, {detail}") from None


def multipart(fields: Mapping[str, bytes], files: Mapping[str, Path]) -> tuple[bytes, str]:
    """Return a form as the body of a request, and its content type.

    Args:
        fields: values by name.
        files: paths by name; the file's name goes along, its suffix tells the server the format.
    """
    boundary = uuid.uuid4().hex
    parts = [(f'name="{name}"', value) for name, value in fields.items()]
    parts += [(f'name="{name}"; filename="{path.name}"', path.read_bytes()) for name, path in files.items()]
    lines = [f"--{boundary}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() for head, _ in parts]
    body = b"".join(line + content + b"\r\n" for line, (_, content) in zip(lines, parts, strict=True))
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"
