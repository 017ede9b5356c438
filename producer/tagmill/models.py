"""Which version a model's name means: by number, by alias, or by the champion's alias."""

from __future__ import annotations

from collections.abc import Callable

from tagmill.errors import UnknownModel
from tagmill.registry import Card, ModelVersion, Registry, parse_model
from tagmill.store.aliases import Aliases
from tagmill.training import CHAMPION


def resolve(text: str, *, registry: Registry, aliases: Aliases) -> ModelVersion:
    """The version that a user means.

    Args:
        text: ``pets@7``, ``pets@champion``, or ``pets``: its champion, and where it has none its
            newest version that did not fail its probe.
        registry: where versions are.
        aliases: that say which of them is meant.

    Raises:
        UnknownModel: if there is no such model, version or alias.
        ModelUnavailable: if a card that tells cannot be read.
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
    if number is not None:
        return registry.resolve(f"{name}@{number}")
    found = registry.resolve(text)
    if alias or not registry.holds(found):  # the built-in model, before it is built
        return found
    fit = newest(registry, name, lambda card: not card.failed_probe)
    if fit is None:
        raise UnknownModel(
            f"all versions of {name} failed their probe in a lane: say which, or "
            f"'tagmill models promote {name}@NUMBER --force'"
        )
    return fit


def newest(registry: Registry, name: str, is_meant: Callable[[Card], bool]) -> ModelVersion | None:
    """The newest version of a model whose card says that it is one of those meant.

    Raises:
        ModelUnavailable: if a card cannot be read.
    """
    versions = reversed(registry.versions(name))
    return next((version for version in versions if is_meant(registry.card(version))), None)
