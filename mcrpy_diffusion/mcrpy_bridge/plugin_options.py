"""Options of this package's plugins on their way through MCRpy, which knows nothing of them.

An attribute set on MCRpy's settings reaches a plugin as a keyword of that name. `mcrpy.match` copies only the fields it
knows, and the commands accept no others: there the options are given for the length of a call, by `plugin_options`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import Any

_given: ContextVar[dict[str, Any] | None] = ContextVar("plugin_options", default=None)


@contextlib.contextmanager
def plugin_options(**options: Any) -> Iterator[dict[str, Any]]:
    """Give options to the plugins that are made within this context.

    Parameters
    ----------
    **options
        See the plugins: `references` of PixelMSE; `model`, `seed`, `n_sampling_steps`, `eta`, `sampler`, `best_of`,
        `strength` of the optimizer Diffusion.

    Yields
    ------
    dict
        The options, to which more may be added.

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
    """Return an option: the keyword of that name, else what `plugin_options` gives, else the default."""
    for values in (keywords, _given.get() or {}):
        if values.get(name) is not None:
            return values[name]
    return default
