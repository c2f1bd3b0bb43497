"""Command-line tools: one job a module, `python -m tools.<name> --help`."""
