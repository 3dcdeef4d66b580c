"""Deprecated place of `mcrpy_diffusion.evaluation`."""

import warnings

from mcrpy_diffusion.evaluation.evaluate import evaluate as evaluate

warnings.warn("mcrpy_diffusion.evaluate is deprecated; use mcrpy_diffusion.evaluation.evaluate", DeprecationWarning, 2)
