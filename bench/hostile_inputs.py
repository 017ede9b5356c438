"""Hostile inputs, each made from a seed, and what may become of them.

A kind makes its n-th input, always the same, and feeds it to what reads such inputs. Whoever feeds
one gets a word for what became of it; an error that is none of `tagmill.errors`, or a result that
nobody downstream could use, is raised.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from kombu.exceptions import DecodeError
from kombu.serialization import loads

from bench.hostile_images import hostile_image
from tagmill.broker import Broker
from tagmill.contract import Item
from tagmill.errors import (
    BrokerError,
    ItemError,
    MessageError,
    ModelUnavailable,
    SourceError,
    StoreError,
    UsageError,
)
from tagmill.registry import ModelVersion, Registry
from tagmill.s3 import S3, parse_s3_uri, s3_uri
from tagmill.settings import Settings, load_settings
from tagmill.sources import Position, default_roots, file_uri, open_source, path_of, readable
from tagmill.sources import source_name as name_of
from tagmill.store import Store
from tagmill_worker.fetch import LocalFetch
from tagmill_worker.images import Geometry, decode
from tagmill_worker.tasks import parse_message

LONGEST_MESSAGE = 2_000
"""Characters of an error: it is logged, and read by people."""

_GEOMETRY = Geometry(size=224)
_MODEL = ModelVersion(name="m", number=1)
_PIECES = (
    "", " ", "\t", "\r", "\n", "\0", "\x1b[31m", '"', '""', "'", ",", ";", ":", "#", "?", "%",
    "%00", "%2e%2e", "%zz", "..", "../", "./", "/", "//", "///", "\\", "~", "~root", "~no-one/x",
    "*", "**", "[", "[]", "{", "}", "[[[[", "null", "true", "-1", "0", "1", "1e999", "nan", "inf",
    "9" * 400, "x" * 3_000, "é", "🦊", "\u202e", "\ufeff", "\ud800", "\udcff", "a.jpg", "uri",
    "uri,label\n", "label", '{"uri": ', '{"uri": "a.jpg"}', "[" * 20_000, "file:", "file:///",
    "file://localhost/", "file://[", "FILE:///", "s3:", "s3://", "s3://bucket/", "s3://b", "@",
    "http://", "redis://:hush@h:1/0", "amqp://u:hush@h", "sentinel://", "postgresql://u:hush@h/d",
    "sqlite:///", "sqlite://", "/proc/self/root", "/dev/zero", "\u2100", "１", "²", "\x85",
)  # fmt: skip
_ODD: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 1.5, float("nan"), float("inf"), 2**62, 2**63, 10**400, 10**5000,
    "", "1", "j", "j" * 33, "../x", "\ud800", "j\n", [], [[]], {}, {"a": {}}, "x" * 100_000,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of hostile inputs.

    Attributes:
        make: an input from a generator.
        feed: gives it to its reader: a word for what became of it, or an error that is no
            documented end.
    """

    make: Callable[[Random], Any]
    feed: Callable[[Any], str]


def seeded(name: str, n: int) -> Random:
    """The generator of a kind's n-th input."""
    return Random(f"{name} {n}")


def kinds(photos: Sequence[Path], folder: Path) -> dict[str, Kind]:
    """All kinds by their names.

    Args:
        photos: JPEGs.
        folder: an empty one, for files that are read back.
    """
    registry = Registry(folder / "models")
    home = registry.path(_MODEL)
    home.mkdir(parents=True)
    (folder / "root").mkdir()
    return {
        "image": Kind(make=lambda random: hostile_image(photos, random), feed=feed_image),
        "manifest": Kind(make=_manifest, feed=lambda made: feed_manifest(folder, *made)),
        "uri": Kind(make=_text, feed=lambda text: feed_uri(folder / "root", text)),
        "message": Kind(make=_message, feed=feed_message),
        "body": Kind(make=_body, feed=feed_body),
        "settings": Kind(make=_environment, feed=feed_settings),
        "card": Kind(make=_card, feed=lambda data: feed_card(registry, data)),
        "labels": Kind(make=_labels, feed=lambda data: feed_labels(registry, data)),
    }


def feed_image(data: bytes) -> str:
    try:
        decoded = decode(data, _GEOMETRY, max_pixels=Settings().max_pixels)
    except ItemError as error:
        return _said(error, error.code)
    assert decoded.pixels.shape == (224, 224, 3)
    assert decoded.width > 0
    assert decoded.height > 0
    return "decoded"


def feed_manifest(folder: Path, suffix: str, data: bytes) -> str:
    path = folder / f"list{suffix}"
    path.write_bytes(data)
    source = open_source(str(path), leave_out=folder / "none", s3=S3(Settings()))
    try:
        uris = [uri for uri, _ in source.items()]
    except SourceError as error:
        return _said(error, "refused")
    for uri in uris:
        uri.encode()  # as the ledger does
        _check_uri(uri)
    if uris:
        middle = Position(n=len(uris) // 2 + 1, uri=uris[len(uris) // 2])
        assert [uri for uri, _ in source.items(after=middle)] == uris[middle.n :]
    return "listed"


def _check_uri(uri: str) -> None:
    if uri.startswith("file:"):
        assert file_uri(path_of(uri)) == uri
    else:
        assert s3_uri(*parse_s3_uri(uri)) == uri
    assert readable(uri).isprintable()


def feed_uri(root: Path, text: str) -> str:
    try:
        LocalFetch([root], max_bytes=1000)(Item(n=0, uri=text, version=""))
    except ItemError as error:
        _said(error, error.code)
    else:
        raise AssertionError(f"{text!r} was read from an empty folder")
    try:
        name = name_of(text)
        default_roots(name)
        _check_uri(name)
    except SourceError as error:
        return _said(error, "refused")
    return "named"


def feed_message(body: dict[str, Any]) -> str:
    try:
        message = parse_message(body)
    except MessageError as error:
        return _said(error, "refused")
    assert body == message.as_kwargs()
    return "read"


def feed_body(data: bytes) -> str:
    try:
        body = loads(data, "application/json", "utf-8", accept={"application/json"})
    except DecodeError:
        return "undecodable"
    if not (isinstance(body, list) and len(body) == 3 and isinstance(body[1], dict)):
        return "none of ours"
    return feed_message(body[1])


def feed_settings(environment: dict[str, str]) -> str:
    with mock.patch.dict(os.environ, environment):
        try:
            settings = load_settings()
        except UsageError as refused:
            end, shown = _said(refused, "refused"), "".join(traceback.format_exception(refused))
        else:
            assert settings.lane_count > 0
            assert settings.models_place
            end, shown = "loaded", repr(settings)
            with contextlib.suppress(BrokerError):
                Broker(settings).close()
            with contextlib.suppress(StoreError, UsageError):
                Store(settings.store_address).close()
    assert "hush" not in shown
    return end


def feed_card(registry: Registry, data: bytes) -> str:
    (registry.path(_MODEL) / "card.json").write_bytes(data)
    try:
        card = registry.card(_MODEL)
    except ModelUnavailable as error:
        return _said(error, "refused")
    assert all(type(text) is str for pair in card.files.items() for text in pair)
    assert 8 <= card.input_size <= 4096
    json.dumps(card.about).encode()
    return "read"


def feed_labels(registry: Registry, data: bytes) -> str:
    home = registry.path(_MODEL)
    (home / "labels.csv").write_bytes(data)
    files = {"labels.csv": hashlib.sha256(data).hexdigest()}
    (home / "card.json").write_text(json.dumps({**_SOUND_CARD, "files": files}))
    try:
        labels = registry.labels(_MODEL)
    except ModelUnavailable as error:
        return _said(error, "refused")
    assert all(type(text) is str and "\0" not in text for pair in labels for text in pair)
    return "read"


def _said(error: Exception, word: str) -> str:
    assert 0 < len(str(error)) <= LONGEST_MESSAGE, f"{len(str(error)):,} characters"
    return word


def _text(random: Random) -> str:
    pieces = [random.choice(_PIECES) for _ in range(random.randint(1, 6))]
    start = random.choice(("", "", "file:///", "s3://bucket/", "/"))
    return start + "".join(pieces)[:100_000]


def _manifest(random: Random) -> tuple[str, bytes]:
    suffix = random.choice((".txt", ".csv", ".jsonl"))
    lines = {
        ".txt": ["# a list", "a.jpg", "file:///b.jpg", "s3://bucket/c.jpg"],
        ".csv": ["uri,label", "a.jpg,x", '"b,c.jpg",y', "file:///d.jpg,z"],
        ".jsonl": ['{"uri": "a.jpg"}', '"b.jpg"', '{"uri": "s3://bucket/c.jpg", "n": [1]}'],
    }[suffix]
    for _ in range(random.randint(1, 4)):
        lines.insert(random.randrange(len(lines) + 1), _text(random))
    data = random.choice(("\n", "\r\n", "\n\n")).join(lines).encode("utf-8", "surrogatepass")
    return suffix, _harmed(data, random)


def _harmed(data: bytes, random: Random) -> bytes:
    harmed = bytearray(data)
    for _ in range(random.choice((0, 0, 1, 5))):
        at = random.randrange(len(harmed) + 1)
        harmed[at : at + random.choice((0, 1, 8))] = random.randbytes(random.choice((0, 1, 4)))
    return bytes(harmed)


def _message(random: Random) -> dict[str, Any]:
    body: dict[Any, Any] = {"v": 1, "job": "j", "seq": 0}
    for _ in range(random.randint(0, 3)):
        key = random.choice(("v", "job", "seq", "more", "x" * 100_000, ""))
        body[key] = random.choice(_ODD)
        if random.random() < 0.2:
            del body[random.choice(list(body))]
    return body


def _body(random: Random) -> bytes:
    text = _written([[], _message(random), {}]) if random.random() < 0.8 else _text(random)
    return _harmed(text.encode("utf-8", "surrogatepass"), random)


def _environment(random: Random) -> dict[str, str]:
    names = random.sample(sorted(Settings.model_fields), random.randint(1, 4))
    environment = {}
    for name in names:
        text = _text(random).replace("\0", "").replace("\ud800", "")
        environment[f"TAGMILL_{name.upper()}"] = (
            text if name.endswith("_url") else text.replace("hush", "")
        )
    return environment


_SOUND_CARD = {
    "input_size": 224, "geometry": "center_crop", "resize_ratio": 1.14, "classes": 2,
    "files": {"labels.csv": "0" * 64}, "built_at": "2026-11-25T00:00:00Z",
}  # fmt: skip


def _card(random: Random) -> bytes:
    card: dict[str, Any] = dict(_SOUND_CARD)
    for _ in range(random.randint(0, 3)):
        card[random.choice([*card, "more"])] = random.choice(
            (*_ODD, 224, "squash", 1.0, {"../x": "0"}, {"a": 1}, {"a": None}, ["ab"], "ab")
        )
    text = _written(card) if random.random() < 0.9 else _text(random)
    return _harmed(text.encode("utf-8", "surrogatepass"), random)


def _written(value: Any) -> str:
    """As JSON, numbers too that have more digits than Python writes or reads."""
    try:
        return json.dumps(value)
    except ValueError:
        return json.dumps([[], {"v": 1, "job": "j", "seq": 224}, {}]).replace("224", "9" * 5000)


def _labels(random: Random) -> bytes:
    lines = ["index,wnid,label", "0,n01,cat", '1,n02,"a, dog"']
    for _ in range(random.randint(0, 3)):
        lines.insert(random.randrange(len(lines) + 1), _text(random))
    return _harmed("\n".join(lines).encode("utf-8", "surrogatepass"), random)
