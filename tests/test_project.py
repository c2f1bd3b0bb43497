"""Rules that hold for the whole tree: layout, style budgets, safety, and what the project promises in its files."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(path for folder in ("common", "tools") for path in (ROOT / folder).rglob("*.py"))
EVERYTHING = sorted([*CODE, *(ROOT / "tests").rglob("*.py"), *(ROOT / ".ci").glob("*.py")])
TEXT_SUFFIXES = {
    "",
    ".py",
    ".md",
    ".json",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    ".conf",
    ".html",
    ".css",
    ".js",
    ".csv",
}
IGNORED_FOLDERS = {
    ".git",
    ".hosts",
    ".venv",
    ".hypothesis",
    "__pycache__",
    "build",
    "dist",
    "output",
    "outputs",
    "runs",
    "mlruns",
}
MODULE_LINES = 300
FUNCTION_LINES = 40

# Written in pieces, so that this file does not match itself.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.}-])/(?:wo" r"rk|ro" r"ot)/\w"),
    "a package index": re.compile(r"pypi\.o" r"rg|pythonhost" r"ed|find-li" r"nks|index-u" r"rl"),
    "an unfinished mark": re.compile(r"\b(?:TO" r"DO|FIX" r"ME|X" r"XX)\b"),
}
BANNED_CALLS = {
    ("pickle", "load"): "pickle.load runs code from the file",
    ("pickle", "loads"): "pickle.loads runs code from the data",
    ("torch", "hub"): "torch.hub downloads code",
    ("os", "system"): "os.system runs a shell",
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def text_files() -> Iterator[Path]:
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [
            n for n in folders if n not in IGNORED_FOLDERS and not n.endswith((".egg-info", "_cache"))
        ]
        for name in files:
            path = Path(folder, name)
            if path.suffix in TEXT_SUFFIXES:
                yield path


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function's body without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins() -> dict[str, list[str]]:
    """Constraint lines by package name."""
    result: dict[str, list[str]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            result.setdefault(normalised(re.split(r"[=<>;\s]", line)[0]), []).append(line)
    return result


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def make_targets() -> set[str]:
    return set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )


class TestLayout:
    def test_every_exported_name_can_be_imported(self) -> None:
        for path in CODE:
            if path.name == "__init__.py" and "__all__" in path.read_text(encoding="utf-8"):
                module = importlib.import_module(module_name(path))
                missing = [name for name in module.__all__ if not hasattr(module, name)]
                assert not missing, f"{relative(path)} exports {missing}, which it does not have"
                assert list(module.__all__) == sorted(set(module.__all__), key=sort_key), relative(path)

    def test_packages_are_packages_and_tests_are_not(self) -> None:
        folders = {path.parent for path in CODE}
        assert [relative(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []
        assert [relative(path) for path in (ROOT / "tests").rglob("__init__.py")] == []

    def test_no_module_is_a_drawer(self) -> None:
        banned = {"utils.py", "util.py", "helpers.py", "helper.py", "misc.py"}
        assert [relative(path) for path in EVERYTHING if path.name in banned] == []

    def test_test_files_have_names_of_their_own(self) -> None:
        names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
        assert sorted(names) == sorted(set(names))


def sort_key(name: str) -> tuple[int, str]:
    """The order of the style checker: constants, then classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


class TestBudgets:
    def test_modules_are_short(self) -> None:
        lengths = {relative(path): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
        assert {path: count for path, count in lengths.items() if count > MODULE_LINES} == {}

    def test_functions_are_short(self) -> None:
        long = {
            f"{relative(path)}: {node.name}": body_lines(node)
            for path in CODE
            for node in ast.walk(tree(path))
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and body_lines(node) > FUNCTION_LINES
        }
        assert long == {}

    def test_public_functions_are_annotated(self) -> None:
        bare = [
            f"{relative(path)}: {node.name}"
            for path in CODE
            for node in ast.walk(tree(path))
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and node.returns is None
        ]
        assert bare == []

    def test_modules_say_what_they_are(self) -> None:
        assert [relative(path) for path in CODE if not ast.get_docstring(tree(path))] == []


class TestSafety:
    @pytest.mark.parametrize("reason", FORBIDDEN)
    def test_text_files_hold_no(self, reason: str) -> None:
        found = [
            f"{relative(path)}:{number}: {line.strip()[:100]}"
            for path in text_files()
            for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
            if FORBIDDEN[reason].search(line)
        ]
        assert found == [], f"{reason} must not stand in the project"

    def test_no_dangerous_calls(self) -> None:
        found = []
        for path in CODE:
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                    reason = BANNED_CALLS.get((node.value.id, node.attr))
                    found += [f"{relative(path)}:{node.lineno}: {reason}"] if reason else []
        assert found == []

    def test_weights_are_read_as_tensors_alone(self) -> None:
        found = [
            f"{relative(path)}:{node.lineno}"
            for path in EVERYTHING
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Call)
            and ast.unparse(node.func) == "torch.load"
            and not any(
                word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in node.keywords
            )
        ]
        assert found == [], "torch.load must be called with weights_only=True"

    def test_no_remote_code(self) -> None:
        found = [
            f"{relative(path)}:{node.value.lineno}"
            for path in CODE
            for node in ast.walk(tree(path))
            if isinstance(node, ast.keyword)
            and node.arg == "trust_remote_code"
            and ast.unparse(node.value) != "False"
        ]
        assert found == []

    def test_no_shell(self) -> None:
        found = [
            f"{relative(path)}:{node.value.lineno}"
            for path in CODE
            for node in ast.walk(tree(path))
            if isinstance(node, ast.keyword) and node.arg == "shell" and ast.unparse(node.value) != "False"
        ]
        assert found == []

    def test_no_assert_outside_tests(self) -> None:
        found = [
            f"{relative(path)}:{node.lineno}"
            for path in CODE
            for node in ast.walk(tree(path))
            if isinstance(node, ast.Assert)
        ]
        assert found == []


class TestCommon:
    """`common` moves into every packed bundle, where it has another name."""

    MODULES = tuple(path for path in CODE if path.is_relative_to(ROOT / "common"))

    def test_imports_itself_relatively_and_never_the_tools(self) -> None:
        found = []
        for path in self.MODULES:
            for node in ast.walk(tree(path)):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                if isinstance(node, ast.ImportFrom) and node.level == 0:
                    names = [node.module or ""]
                found += [
                    f"{relative(path)}: {n}" for n in names if n.split(".")[0] in {"common", "tools", "tests"}
                ]
        assert found == []

    def test_relative_imports_stay_inside(self) -> None:
        for path in self.MODULES:
            depth = len(path.relative_to(ROOT).parts) - 1
            for node in ast.walk(tree(path)):
                if isinstance(node, ast.ImportFrom):
                    assert node.level <= depth, f"{relative(path)}:{node.lineno} leaves common"

    def test_runs_nothing_as_a_script(self) -> None:
        assert [
            relative(path) for path in self.MODULES if "__main__" in path.read_text(encoding="utf-8")
        ] == []


class TestTools:
    TOOLS = tuple(sorted(path.stem for path in (ROOT / "tools").glob("*.py") if path.stem != "__init__"))

    @pytest.mark.parametrize("name", TOOLS)
    def test_explains_itself(self, name: str) -> None:
        module = importlib.import_module(f"tools.{name}")
        assert isinstance(module.app, Typer), f"tools/{name}.py must have a Typer named app"
        result = CliRunner().invoke(module.app, ["--help"])
        assert result.exit_code == 0, result.output
        assert "Usage" in result.output
        assert f"tools.{name}" in result.output or f"tools.{name}" in (module.__doc__ or ""), (
            "show an example call"
        )

    def test_wheel_names_the_files_that_are_no_code(self) -> None:
        declared = project()["tool"]["setuptools"]["package-data"]
        for package in ("common", "tools"):
            for path in sorted((ROOT / package).rglob("*")):
                if path.is_file() and path.suffix not in {".py", ".pyc"}:
                    assert any(
                        path in (ROOT / name.replace(".", "/")).glob(pattern)
                        for name, patterns in declared.items()
                        for pattern in patterns
                    ), f"pyproject.toml must list {relative(path)} in package-data"


class TestPackaging:
    def test_licence_is_apache_2(self) -> None:
        text = (ROOT / "LICENSE").read_text(encoding="utf-8")
        assert text.split()[:5] == ["Apache", "License", "Version", "2.0,", "January"]
        assert "END OF TERMS AND CONDITIONS" in text
        assert "9. Accepting Warranty or Additional Liability." in text
        assert project()["project"]["license"] == "Apache-2.0"

    def test_every_bundle_carries_the_licence(self) -> None:
        text = (ROOT / "LICENSE").read_text(encoding="utf-8")
        for bundle in (path.parents[1] for path in (ROOT / "bundles").glob("*/configs/metadata.json")):
            assert (bundle / "LICENSE").read_text(encoding="utf-8") == text, relative(bundle)

    def test_torch_is_pinned_and_its_companions_are_absent(self) -> None:
        assert pins()["torch"] == ["torch==2.13.0"]
        assert {"torchvision", "torchaudio"}.isdisjoint(pins())
        every = [*project()["project"]["dependencies"], *sum_of_extras()]
        assert not any(re.match(r"torch(vision|audio)", requirement) for requirement in every)

    def test_every_requirement_is_pinned_exactly(self) -> None:
        for requirement in [*project()["project"]["dependencies"], *sum_of_extras()]:
            assert normalised(re.split(r"[=<>;\[\s]", requirement)[0]) in pins(), requirement
        for lines in pins().values():
            markers = [line.partition(";")[2].strip() for line in lines]
            assert len(set(markers)) == len(lines), f"{lines} must be told apart by markers"
            assert all(re.match(r"[\w.-]+==[\w.+!]+( ;|$)", line) for line in lines), lines

    def test_extras_are_the_promised_ones(self) -> None:
        extras = {"test", "dicom", "jpeg-lossless", "export", "tracking"}
        assert set(project()["project"]["optional-dependencies"]) == extras

    def test_version_is_that_of_the_code(self) -> None:
        import common

        assert project()["project"]["version"] == common.__version__
        changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").replace("[", "").replace("]", "")
        assert f"## {common.__version__}" in changes or "## Unreleased" in changes

    def test_hooks_and_constraints_name_the_same_ruff(self) -> None:
        hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
        assert set(re.findall(r"ruff==[\d.]+", hooks)) == set(pins()["ruff"])


def sum_of_extras() -> list[str]:
    return [name for names in project()["project"]["optional-dependencies"].values() for name in names]


class TestCommands:
    def test_promised_targets_exist(self) -> None:
        assert {
            "help",
            "env",
            "demo",
            "test",
            "test-slow",
            "test-all",
            "lint",
            "format",
            "clean",
        } <= make_targets()

    def test_help_lists_every_target(self) -> None:
        result = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
        listed = set(re.findall(r"^\s+make ([a-z-]+)", result.stdout, flags=re.MULTILINE))
        assert listed == make_targets()

    @pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
    def test_documented_commands_exist(self, name: str) -> None:
        text = (ROOT / name).read_text(encoding="utf-8")
        targets = set(re.findall(r"(?:^|[`\s])make ([a-z-]+)(?=[`\s])", command_text(text)))
        assert targets <= make_targets(), f"{name} names unknown targets"
        for module in set(re.findall(r"python -m (tools\.[\w.]+)", text)):
            assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), f"{name} names {module}"
        for path in set(re.findall(r"(?<![\w/])((?:bundles|common|tools|tests|docs)/[\w./-]*\w)", text)):
            assert (ROOT / path).exists(), f"{name} names {path}, which does not exist"

    def test_readme_begins_with_the_two_commands(self) -> None:
        commands = re.findall(
            r"^make [a-z-]+", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        assert commands[:2] == ["make demo", "make test"]

    def test_ci_runs_lint_and_the_test_command(self) -> None:
        script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
        assert script.startswith("#!/usr/bin/env bash")
        assert "set -euo pipefail" in script
        assert script.index("make lint") < script.index("make test\n") < script.index("make test-slow")


def command_text(text: str) -> str:
    """The code of a markdown page: blocks and inline."""
    blocks = re.findall(r"```\w*\n(.*?)```", text, flags=re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    return "\n".join([*blocks, *(f"`{code}`" for code in inline)])


class TestConfigs:
    JSON = tuple(sorted((ROOT / "bundles").rglob("configs/**/*.json")))

    @pytest.mark.parametrize("path", JSON, ids=relative)
    def test_json_is_written_with_four_spaces_and_a_final_newline(self, path: Path) -> None:
        text = path.read_text(encoding="utf-8")
        json.loads(text, object_pairs_hook=unique_keys)
        assert text.endswith("}\n")
        assert not text.endswith("\n\n")
        indents = [len(line) - len(line.lstrip(" ")) for line in text.splitlines()]
        assert all(indent % 4 == 0 for indent in indents)
        assert "\t" not in text
        assert not re.search(r" $", text, flags=re.MULTILINE)


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    keys = [key for key, _ in pairs]
    repeated = {key for key in keys if keys.count(key) > 1}
    assert not repeated, f"keys must differ, got {repeated} twice"
    return dict(pairs)
