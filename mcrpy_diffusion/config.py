"""Deprecated place of `mcrpy_diffusion.settings`."""

import warnings

from mcrpy_diffusion.settings import *  # noqa: F403

warnings.warn("mcrpy_diffusion.config is deprecated; use mcrpy_diffusion.settings", DeprecationWarning, 2)
