"""A few hundred hostile inputs, always the same; `python -m bench fuzz` feeds ten thousand."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from bench.hostile_inputs import (
    Kind,
    feed_body,
    feed_image,
    feed_manifest,
    feed_message,
    feed_settings,
    feed_uri,
    kinds,
    seeded,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from support import hostile

from tagmill.settings import Settings
from tagmill_worker.images import FORMATS

COUNTS = {
    "image": 200, "manifest": 60, "uri": 60, "message": 60, "body": 60, "settings": 40, "card": 60,
    "labels": 60,
}  # fmt: skip
ALWAYS_THE_SAME = settings(derandomize=True, database=None, max_examples=60)

WORDS = st.text(max_size=40) | st.sampled_from(
    ["..", "/", "%00", "%2e%2e/", "file:", "file://", "s3://", "s3://bucket/", "\ud800", "\0", "[*"]
)
TEXTS = st.lists(WORDS, max_size=6).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def every_kind(photos: list[Path]) -> Iterator[dict[str, Kind]]:
    with tempfile.TemporaryDirectory() as folder:
        yield kinds(photos, Path(folder))


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.filterwarnings("ignore")
def test_hostile_inputs_end_in_a_documented_way(every_kind: dict[str, Kind], name: str) -> None:
    kind = every_kind[name]
    ends = set()
    for n in range(COUNTS[name]):
        made = kind.make(seeded(name, n))
        try:
            ends.add(kind.feed(made))
        except Exception as error:
            pytest.fail(f"{name} {n}: {error!r}")
    assert len(ends) > 1, "all ended the same way: the inputs are too dull"


def test_no_kind_is_left_out(every_kind: dict[str, Kind]) -> None:
    assert set(COUNTS) == set(every_kind)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        (Path(made) / "root").mkdir()
        yield Path(made)


@ALWAYS_THE_SAME
@given(text=TEXTS)
def test_any_text_as_a_uri_is_read_from_nowhere_else(folder: Path, text: str) -> None:
    feed_uri(folder / "root", text)


@ALWAYS_THE_SAME
@given(
    suffix=st.sampled_from([".txt", ".csv", ".jsonl"]),
    lines=st.lists(TEXTS | JSON.map(json.dumps) | st.just("uri"), max_size=8),
    end=st.sampled_from(["\n", "\r\n", "\r", ""]),
)
def test_any_lines_as_a_manifest_are_listed_or_refused(
    folder: Path, suffix: str, lines: list[str], end: str
) -> None:
    feed_manifest(folder, suffix, end.join(lines).encode("utf-8", "surrogatepass"))


@ALWAYS_THE_SAME
@given(body=st.fixed_dictionaries({}, optional={"v": JSON, "job": JSON, "seq": JSON, "x": JSON}))
def test_any_message_is_ours_or_refused(body: dict[str, object]) -> None:
    feed_message(body)
    feed_body(json.dumps([[], body, {}]).encode())


@ALWAYS_THE_SAME
@given(
    environment=st.dictionaries(
        st.sampled_from([f"TAGMILL_{name.upper()}" for name in Settings.model_fields]),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60),
        min_size=1,
        max_size=4,
    )
)
def test_any_environment_is_loaded_or_refused(environment: dict[str, str]) -> None:
    feed_settings(environment)


@ALWAYS_THE_SAME
@given(start=st.sampled_from(FORMATS), cut=st.integers(0, 400), rest=st.binary(max_size=400))
@pytest.mark.filterwarnings("ignore")
def test_any_bytes_behind_a_sound_beginning_are_decoded_or_refused(
    start: str, cut: int, rest: bytes
) -> None:
    feed_image(BEGINNINGS[start]()[:cut] + rest)


BEGINNINGS: dict[str, Callable[[], bytes]] = {
    kind: (lambda kind=kind: hostile.encoded(hostile.picture(40, 30), kind)) for kind in FORMATS
}
