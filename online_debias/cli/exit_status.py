"""How a command ends: its exit status, and one sentence for what the user can mend."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from online_debias.errors import ConfigError, NonFiniteLossError, RankLostError


def run_command(command: Callable[..., object], *arguments: object) -> int:
    """Run a command; what the user can mend is one sentence, a defect keeps its traceback.

    A command that returns something true had a part that failed.
    """
    sys.path.insert(0, str(Path.cwd()))  # where a user's own callbacks and models are
    try:
        return int(bool(command(*arguments)))
    except (ConfigError, NonFiniteLossError, RankLostError, OSError) as error:
        print(f"online-debias: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "online-debias: stopped; go on from the last checkpoint with --resume, or by the same "
            "command where several runs are compared.",
            file=sys.stderr,
        )
        return 130
