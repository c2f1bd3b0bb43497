"""Starting MONAI Label: what is refused before, and a server that does not come up; no host is needed."""

from __future__ import annotations

import sys
from email import message_from_bytes
from pathlib import Path

import pytest

from tools.hosts.monai_label.client import LabelClient, multipart
from tools.hosts.monai_label.server import APP, LabelServer, free_port


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "bundle" / "scripts" / "common").mkdir(parents=True)
    return tmp_path / "bundle"


def server(python: Path, folder: Path, name: str, bundle: Path) -> LabelServer:
    return LabelServer(python=python, folder=folder, studies=folder, bundles={name: bundle})


def test_names_and_folders_are_checked(bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="must contain segmentation, got 'lungs'"):
        server(Path(sys.executable), tmp_path, "lungs", bundle)
    with pytest.raises(ValueError, match="must be a packed bundle, got a folder without scripts/common"):
        server(Path(sys.executable), tmp_path, "a_segmentation", tmp_path)


def test_a_server_that_ends_tells_what_it_logged(bundle: Path, tmp_path: Path) -> None:
    python = tmp_path / "environment" / "bin" / "python"
    (tmp_path / "environment" / APP).mkdir(parents=True)
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho no such module\nexit 1\n", encoding="utf-8")
    python.chmod(0o755)
    with (
        pytest.raises(RuntimeError, match="ended while it started:\nno such module"),
        server(python, tmp_path, "a_segmentation", bundle),
    ):
        pass
    assert (tmp_path / "app" / "model" / "a_segmentation" / "scripts" / "common").is_dir()


def test_the_command_names_models_and_folders(bundle: Path, tmp_path: Path) -> None:
    command = server(Path(sys.executable), tmp_path, "a_segmentation", bundle).command()
    assert command[command.index("models") + 1] == "a_segmentation"
    assert command[command.index("--studies") + 1] == str(tmp_path)
    assert command[command.index("zoo_source") + 1] == "local"


def test_nobody_listens_is_an_error() -> None:
    with pytest.raises(OSError, match="refused"):
        LabelClient(f"http://127.0.0.1:{free_port()}/").info()


def test_forms_carry_fields_and_files(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n")
    body, kind = multipart({"params": b'{"text": "left"}'}, {"file": tmp_path / "a.png"})
    field, file = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + body).get_payload()
    assert field.get_payload() == '{"text": "left"}'
    assert file.get_filename() == "a.png"
    assert body.count(b"\x89PNG\r\n\r\n") == 1
