"""The model registry: there, readable, and each version whole."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from tagmill.doctor.findings import Look
from tagmill.doctor.weights import fault_of
from tagmill.errors import TagmillError
from tagmill.registry import BUILT_IN, ModelVersion, Registry, open_registry
from tagmill.settings import Settings

WHAT = "model registry"


def look_at_registry(settings: Settings) -> Look:
    """Look at the registry and every version in it."""
    look = Look()
    try:
        registry = open_registry(settings)
        if registry.is_local and not _is_readable(look, registry.folder):
            return look
        found = registry.versions()
    except TagmillError as error:
        look.ill(WHAT, str(error), "look at TAGMILL_MODELS, and at what its user may do there")
        return look
    for model in found:
        _version(look, registry, model)
    if not any(model.name == BUILT_IN for model in found):
        _to_be_built(look, registry, settings.weights)
    return look


def _is_readable(look: Look, folder: Path) -> bool:
    """True where every model's folder can be read: what cannot be seems not to be there."""
    if not folder.exists():
        look.note(WHAT, f"{folder} is not there yet", "tagmill models pull, or set TAGMILL_MODELS")
        return True
    try:
        with os.scandir(folder) as names:
            for name in names:
                if name.is_dir():
                    os.listdir(name.path)
    except OSError as error:
        look.ill(
            WHAT,
            f"{error.filename} cannot be read: {error.strerror}",
            f"let user {os.geteuid()} read it, or look at TAGMILL_MODELS",
        )
        return False
    return True


def _version(look: Look, registry: Registry, model: ModelVersion) -> None:
    if not registry.is_local:  # what is in S3 is verified where it is used
        look.well(str(model), f"in {registry.place}")
        return
    try:
        card = registry.card(model)
        for name in card.files:
            registry.verified_file(model, name)
        labels = len(registry.labels(model))
    except TagmillError as error:
        look.ill(str(model), str(error), registry.way_out(model))
    except OSError as error:
        look.ill(
            str(model),
            f"{error.filename} cannot be read: {error.strerror}",
            f"let user {os.geteuid()} read {registry.path(model)}",
        )
    else:
        if labels != card.classes:
            look.ill(
                str(model),
                f"it has {labels:,} labels, its card says {card.classes:,} classes",
                registry.way_out(model),
            )
        else:
            look.well(str(model), f"whole in {registry.place}")


def _to_be_built(look: Look, registry: Registry, weights: Path | None) -> None:
    what = f"{BUILT_IN}@1"
    if find_spec("tensorflow") is None:
        look.ill(
            what,
            f"not in {registry.place}, and building it needs TensorFlow",
            "pip install 'tagmill[train]', or point TAGMILL_MODELS at a built registry",
        )
    elif weights is None or not fault_of(weights):
        source = weights or "Keras' download"
        look.note(
            what, f"not built yet; the first run builds it from {source}", "tagmill models pull"
        )
