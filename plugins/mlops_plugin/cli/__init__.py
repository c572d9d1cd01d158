"""The `mlops` command; `main` is its public name, see docs/architecture.md."""

from mlops_plugin.cli.mlops import main

__all__ = ["main"]
