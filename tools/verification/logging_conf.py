"""A check of ``configs/logging.conf`` by the rules of MONAI 1.6.1, which refuses whatever could run code."""

from __future__ import annotations

import ast
import configparser
import logging
import logging.handlers
from collections.abc import Iterator

from .checking import check
from .opened import OpenedBundle

LOGGING = "configs/logging.conf"
MODULES = {"logging": logging, "logging.handlers": logging.handlers}
STREAMS = ("sys.stdout", "sys.stderr")


@check("logging.conf", fix="name classes of Python's logging alone, with literals, sys.stdout or sys.stderr")
def logging_conf(bundle: OpenedBundle) -> Iterator[str]:
    """Classes are handlers and formatters of the standard library, arguments are literals or a standard stream."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(bundle.text(LOGGING))
    except configparser.Error as error:
        yield f"{LOGGING} cannot be read: {str(error).splitlines()[0]}"
        return
    for section in ("loggers", "handlers", "formatters"):
        if not parser.has_section(section):
            yield f"{LOGGING} must have a section [{section}]"
    for section in parser.sections():
        name = parser.get(section, "class", fallback="").strip()
        if name and not _is_logging_class(name):
            yield f"[{section}] class={name} is no handler or formatter of logging"
        for field in ("args", "kwargs"):
            value = parser.get(section, field, fallback="").strip()
            if value and not _is_literal(value):
                yield f"[{section}] {field}={value} is more than literals"


def _is_logging_class(name: str) -> bool:
    """``X``, ``logging.X`` or ``logging.handlers.X``, as MONAI resolves them."""
    module, _, attribute = name.rpartition(".")
    found = getattr(MODULES.get(module or "logging"), attribute, None)
    return isinstance(found, type) and issubclass(found, (logging.Handler, logging.Formatter))


def _is_literal(value: str) -> bool:
    for stream in STREAMS:
        value = value.replace(stream, "None")
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return False
    return True
