"""The command line, `bursar`."""

from bursar.service.cli.application import app

__all__ = ["app"]
