"""Of benchmarks only tests are collected; they carry the marker `slow`, for a nightly run."""

from __future__ import annotations

from pathlib import Path


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave scripts out, which doctest would import: some need libraries of their own."""
    name = collection_path.name
    return True if name.endswith(".py") and not name.startswith("test_") else None
