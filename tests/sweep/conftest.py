"""The program in this process, see tests/cli/conftest.py."""

from tests.cli.conftest import cli, folder  # noqa: F401
