"""What other packages that are installed beside DNMS bring, by entry points: strategies of pools.

A package names it in its `pyproject.toml`, and it is there in every agent and server beside which it is installed:

    [project.entry-points."dnms.strategies"]
    by-rack = "our_package:BY_RACK"      # a dnms.domain.strategies.Strategy
"""

from __future__ import annotations

from importlib.metadata import entry_points

from dnms.domain.strategies import STRATEGIES, Strategy

GROUP = "dnms.strategies"


class ExtensionError(Exception):
    """A package brings something that cannot be used; one line that says which."""


def load_strategies() -> None:
    """Add the strategies of installed packages to STRATEGIES. ExtensionError; loading again changes nothing."""
    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist is not None else "a package"
        try:
            strategy = entry.load()
        except Exception as error:  # another's code
            raise ExtensionError(f"strategy {entry.name!r} of {package} cannot be loaded: {error!r}") from error
        if not isinstance(strategy, Strategy):
            raise ExtensionError(f"{entry.name!r} of {package} is no dnms.domain.strategies.Strategy: {entry.value}")
        if STRATEGIES.setdefault(entry.name, strategy) is not strategy:
            raise ExtensionError(f"{package} brings a strategy {entry.name!r}, and there is one of that name already")
