"""tagmill: labels very many images. The light side: listing, enqueueing, results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tagmill.version import __version__

if TYPE_CHECKING:
    from tagmill.client import Client

__all__ = ["Client", "__version__"]


def __getattr__(name: str) -> Any:
    # Loaded where it is used: commands and lanes that do without it start sooner.
    if name == "Client":
        from tagmill.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
