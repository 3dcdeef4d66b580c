"""`python -m mcrpy_diffusion`."""

from __future__ import annotations

import sys

from mcrpy_diffusion.commands.cli import main

sys.exit(main())
