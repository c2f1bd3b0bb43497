"""From the command line to the exit code: options, a stack that is large enough, the graph, one line of error."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Sequence

from .arguments import parse_options
from .bundle import open_bundle
from .privacy import set_up_logging

STACK_BYTES = 32 * 2**20  # what Holoscan asks for; threads get it when the process starts
_RAISED = "GUIDED_SEGMENTATION_STACK_RAISED"


def main(arguments: Sequence[str]) -> int:
    """Run the application and return its exit code.

    Args:
        arguments: of the command line, without the program.

    Returns:
        0, or 1 after an error, which is one line on standard error; nothing is then written.
    """
    options = parse_options(arguments, os.environ)
    raise_stack()
    set_up_logging(options.log_level)
    try:
        bundle = open_bundle(options.model)
        from .application import run  # the host's libraries take seconds: only when the bundle can be used

        written = run(options, bundle)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # what it says may repeat the patient's data
        print(
            f"error: the application failed with {type(error).__name__}: run it with --log-level DEBUG",
            file=sys.stderr,
        )
        if options.log_level == "DEBUG":
            raise
        return 1
    for path in written:
        print(path)
    return 0


def raise_stack() -> None:
    """Start the program anew with the stack that Holoscan needs, where it is smaller and may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    enough = soft == resource.RLIM_INFINITY or soft >= STACK_BYTES
    allowed = hard == resource.RLIM_INFINITY or hard >= STACK_BYTES
    if enough or not allowed or _RAISED in os.environ:
        return
    resource.setrlimit(resource.RLIMIT_STACK, (STACK_BYTES, hard))
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, _RAISED: "1"})
