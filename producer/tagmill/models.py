"""Which version a model's name means: by number, by alias, or by the champion's alias."""

from __future__ import annotations

from tagmill.errors import UnknownModel
from tagmill.registry import ModelVersion, Registry, parse_model
from tagmill.store.aliases import Aliases
from tagmill.training import CHAMPION


def resolve(text: str, *, registry: Registry, aliases: Aliases) -> ModelVersion:
    """The version that a user means.

    Args:
        text: ``pets@7``, ``pets@champion``, or ``pets``: its champion, and its newest version where
            it has none.
        registry: where versions are.
        aliases: that say which of them is meant.

    Raises:
        UnknownModel: if there is no such model, version or alias.
    """
    name, _, alias = text.partition("@")
    if alias and not alias.isdecimal():
        parse_model(name)
        number = aliases.version(name, alias)
        if number is None:
            raise UnknownModel(
                f"{name} has no {alias!r:.40}: 'tagmill models promote {name}@NUMBER' sets "
                f"{name}@{CHAMPION}"
            )
        return registry.resolve(f"{name}@{number}")
    parse_model(text)
    number = None if alias else aliases.version(name)
    return registry.resolve(text if number is None else f"{name}@{number}")
