"""Reading a network that somebody else made: what would run their code is refused unread."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tagmill.errors import ModelUnavailable
from tagmill.settings import MIB
from tagmill_worker.training.runtime import frameworks

MOST_FILE_BYTES = 2048 * MIB
MOST_CONFIG_BYTES = 32 * MIB

CODE = frozenset({"Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"})
"""Layers of Keras that hold code, or programs of another framework."""


def load_foreign(path: Path) -> Any:
    """Load a network in safe mode.

    Args:
        path: a whole model, ``.keras`` or ``.h5``, of Keras 3 or 2.

    Raises:
        ModelUnavailable: if it is none, or cannot be loaded without running code of its own.
    """
    if path.suffix not in (".keras", ".h5"):
        raise ModelUnavailable(f"{path}: a network is a .keras or a .h5 file of Keras")
    try:
        if path.stat().st_size > MOST_FILE_BYTES:
            raise ModelUnavailable(
                f"{path} has {path.stat().st_size:,} bytes, the limit is {MOST_FILE_BYTES:,}"
            )
        config = _config_of_zip(path) if path.suffix == ".keras" else _config_of_h5(path)
    except OSError as error:
        raise ModelUnavailable(f"{path} cannot be read: {error.strerror or error}") from error
    if foreign := sorted(CODE.intersection(_classes(config))):
        raise ModelUnavailable(
            f"{path} has layers that are code ({', '.join(foreign)}), which is never run: build "
            "it of Keras' plain layers, as Rescaling in place of a Lambda that divides"
        )
    keras, _ = frameworks()
    try:
        with tempfile.TemporaryDirectory(prefix="tagmill-") as folder:
            if path.suffix == ".h5":
                path = _of_keras_3(path, Path(folder))
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # what Keras, h5py and the layers raise
        reason = " ".join(str(error).split())[:300]
        raise ModelUnavailable(f"{path.name} cannot be loaded in safe mode: {reason}") from error


def _config_of_zip(path: Path) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            about = archive.getinfo("config.json")
            if about.file_size > MOST_CONFIG_BYTES:
                raise ModelUnavailable(f"{path} describes itself in {about.file_size:,} bytes")
            return json.loads(archive.read(about))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError) as error:
        raise ModelUnavailable(f"{path} is no file of Keras 3: {error!s:.200}") from error


def _config_of_h5(path: Path) -> Any:
    import h5py

    with h5py.File(path, "r") as file:
        text = file.attrs.get("model_config")
    if text is None:
        raise ModelUnavailable(
            f"{path} holds weights and no network: save the whole model, with model.save()"
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelUnavailable(f"{path} is no file of Keras: {error!s:.200}") from error


def _of_keras_3(path: Path, folder: Path) -> Path:
    """A copy as Keras 3 reads it: Keras 2 wrote an argument that depthwise layers lost since."""
    import h5py

    copy = folder / path.name
    shutil.copyfile(path, copy)
    with h5py.File(copy, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in _dicts(config):
            if layer.get("class_name") == "DepthwiseConv2D":
                layer.get("config", {}).pop("groups", None)
        file.attrs["model_config"] = json.dumps(config)
    return copy


def _classes(config: Any) -> Iterator[str]:
    """The names of all classes, without the modules and packages that Keras finds them in."""
    names = (str(found["class_name"]) for found in _dicts(config) if "class_name" in found)
    return (re.split(r"[.>]", name)[-1] for name in names)


def _dicts(config: Any) -> Iterator[dict[str, Any]]:
    waiting = [config]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            yield found
            waiting.extend(found.values())
        elif isinstance(found, list):
            waiting.extend(found)
