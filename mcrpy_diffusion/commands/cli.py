"""The command `mcrpy_diffusion`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mcrpy_diffusion.commands import stages
from mcrpy_diffusion.commands.parser import MCRPY_COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 done, 2 wrong input, 130 stopped, 1 anything else."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or given[0] not in MCRPY_COMMANDS:
        return stages.main(given)
    from mcrpy_diffusion.commands import mcrpy_commands

    name = sys.argv[0] if given[0] == "gui" else f"mcrpy_diffusion {given[0]}"  # the GUI runs that file again
    sys.argv = [name, *given[1:]]
    return int(getattr(mcrpy_commands, given[0])() or 0)


if __name__ == "__main__":
    sys.exit(main())
