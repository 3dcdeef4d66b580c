"""Passing options to this package's plugins, which MCRpy's settings do not have.

An attribute set on MCRpy's settings reaches a plugin as a keyword of that name. `mcrpy.match` and MCRpy's commands pass
on only their own fields; for them, `plugin_options` sets the options for the length of a call.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

_given: ContextVar[dict[str, Any] | None] = ContextVar("plugin_options", default=None)


@contextlib.contextmanager
def plugin_options(**options: Any) -> Iterator[dict[str, Any]]:
    """Pass options to the plugins that are created within this context.

    Parameters
    ----------
    **options
        `references` for PixelMSE; `model`, `seed`, `n_sampling_steps`, `eta`, `sampler`, `best_of` and `strength` for
        the optimizer Diffusion.

    Yields
    ------
    dict
        The options; more can be added.

    Examples
    --------
    >>> with plugin_options(model="model.safetensors", best_of=4):  # doctest: +SKIP
    ...     mcrpy.match(microstructure, settings=settings)
    """
    token = _given.set(options)
    try:
        yield options
    finally:
        _given.reset(token)


def get_option(name: str, keywords: Mapping[str, Any], default: Any = None) -> Any:
    """Return the keyword of that name, else the option set by `plugin_options`, else the default."""
    for values in (keywords, _given.get() or {}):
        if values.get(name) is not None:
            return values[name]
    return default
