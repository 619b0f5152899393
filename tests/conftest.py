"""The suite's fixtures, by module."""

from __future__ import annotations

pytest_plugins = ["tests.fix_servers", "tests.fix_command", "tests.fix_matrix", "tests.fix_all_databases"]
