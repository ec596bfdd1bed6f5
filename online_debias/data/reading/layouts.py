"""For sets that people keep in several layouts: the expected tree, and listing what is there."""

from __future__ import annotations

import textwrap
from pathlib import Path

from online_debias.data.reading.decode import suffixes


def join_trees(*trees: str) -> str:
    """One tree of several layouts, any of which will do.

    Example:
        >>> print(join_trees("a/", "b/"))
        ROOT/
          a/
        or
        ROOT/
          b/
    """
    return "\nor\n".join("ROOT/\n" + textwrap.indent(textwrap.dedent(tree), "  ") for tree in trees)


def not_found(root: Path, what: str, tree: str) -> FileNotFoundError:
    """The error for a root without the files, with the expected tree.

    Example:
        >>> print(not_found(Path("/nowhere"), "BAR", "ROOT/"))
        root '/nowhere' is not a folder: give the folder that holds this tree.
        ROOT/
    """
    problem = f"holds no {what}" if root.is_dir() else "is not a folder"
    return FileNotFoundError(
        f"root '{root}' {problem}: give the folder that holds this tree.\n{tree}"
    )


def is_image(path: Path) -> bool:
    """Whether the name is that of an image, and not of a hidden file."""
    return path.suffix.lower() in suffixes() and not path.name.startswith(".")
