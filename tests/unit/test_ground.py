"""Settings, registry, messages, labels: what everything else stands on."""

from __future__ import annotations

import json
import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tagmill.contract import (
    ChunkMessage,
    Item,
    Label,
    dump_items,
    dump_labels,
    load_items,
    load_labels,
)
from tagmill.errors import MessageError, ModelUnavailable, UnknownModel, UsageError
from tagmill.registry import Registry, sha256
from tagmill.settings import load_settings
from tagmill_worker.tasks import parse_message

TEXT = st.text(st.characters(exclude_categories=["Cs"]))


def test_all_wrong_settings_are_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_LANES", "none")
    monkeypatch.setenv("TAGMILL_CHUNK_ITEMS", "100000")
    with pytest.raises(UsageError, match=r"TAGMILL_LANES: .*TAGMILL_CHUNK_ITEMS: "):
        load_settings()


def test_roots_are_joined_by_colons_or_a_json_list(monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("/a b:/c", '["/a b", "/c"]'):
        monkeypatch.setenv("TAGMILL_ROOTS", text)
        assert load_settings().roots == (Path("/a b"), Path("/c"))
    monkeypatch.setenv("TAGMILL_ROOTS", '["/x:y"]')
    assert load_settings().roots == (Path("/x:y"),)


def test_secrets_do_not_show() -> None:
    settings = load_settings(
        broker_url="redis://:hush@host/0", store_url="postgresql+psycopg://u:hush@host/d"
    )
    assert "hush" not in repr(settings)
    assert "hush" not in str(settings.model_dump())
    assert "hush" in settings.store_address


def test_secrets_do_not_show_where_settings_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAGMILL_STORE_URL", "mysql://u:hush@host/d")
    with pytest.raises(UsageError) as refused:
        load_settings()
    shown = "".join(traceback.format_exception(refused.value))
    assert "TAGMILL_STORE_URL" in shown
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ROOTS", "[" * 100_000, "nested too deeply"),
        ("ROOTS", "/a:~nobody-here/x", "no home folder for '~nobody-here"),
        ("STATE_DIR", "~nobody-here", "no home folder for '~nobody-here"),
        ("MODELS", "~no\udcff", r"no home folder for '~no\\udcff"),
        ("MODELS", "~nobody-here/models", "no home folder for '~nobody-here"),
        ("LEASE_S", "inf", "less than or equal to 86400"),
        ("LEASE_S", "nan", "less than or equal to 86400"),
    ],
)
def test_setting_that_cannot_be_is_said(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"TAGMILL_{name}", value)
    with pytest.raises(UsageError, match=f"TAGMILL_{name}: .*{said}"):
        load_settings()


def test_time_of_an_item_is_below_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(lease_s=31.0).item_timeout_s == 30
    assert load_settings(lease_s=5.0, item_timeout_s=4.0).item_timeout_s == 4
    monkeypatch.setenv("TAGMILL_LEASE_S", "30")
    said = r"TAGMILL_ITEM_TIMEOUT_S: .*its 30 s are not below the 30 s of TAGMILL_LEASE_S"
    with pytest.raises(UsageError, match=said):
        load_settings()


def test_state_folder_whose_name_is_not_utf8_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / os.fsdecode(b"latin-\xe9")
    odd.mkdir()
    with pytest.raises(UsageError, match=r"latin-\\udce9.* is not UTF-8"):
        _ = load_settings(state_dir=odd).store_address
    monkeypatch.chdir(odd)
    with pytest.raises(UsageError, match="--state-dir"):
        _ = load_settings().store_address


@given(st.lists(st.tuples(st.integers(0, 2**40), TEXT, TEXT)))
def test_items_survive_the_ledger(rows: list[tuple[int, str, str]]) -> None:
    items = tuple(Item(n=n, uri=uri, version=version) for n, uri, version in rows)
    assert load_items(dump_items(items)) == items


@given(st.lists(st.tuples(TEXT, TEXT, st.floats(0, 1))))
def test_labels_survive_the_store(rows: list[tuple[str, str, float]]) -> None:
    labels = tuple(Label(id=i, name=name, score=score) for i, name, score in rows)
    assert load_labels(dump_labels(labels)) == labels


def test_our_own_message_is_read() -> None:
    message = ChunkMessage(job="j", seq=3)
    assert parse_message(message.as_kwargs()) == message


@given(
    st.dictionaries(
        st.sampled_from(["v", "job", "seq", "x"]),
        st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()),
    )
)
def test_foreign_messages_are_refused_in_our_words(body: dict[str, object]) -> None:
    try:
        message = parse_message(body)
    except MessageError:
        return
    assert body == message.as_kwargs()
    assert 0 < len(message.job) <= 32


def registry_with_model(folder: Path) -> Registry:
    home = folder / "pets" / "3"
    home.mkdir(parents=True)
    (home / "labels.csv").write_text("index,wnid,label\n0,a,cat\n1,b,dog\n")
    card = {
        "input_size": 224,
        "geometry": "center_crop",
        "resize_ratio": 1.1,
        "classes": 2,
        "files": {"labels.csv": sha256(home / "labels.csv")},
    }
    (home / "card.json").write_text(json.dumps(card))
    return Registry(folder)


def test_registry_resolves_names_to_versions(tmp_path: Path) -> None:
    registry = registry_with_model(tmp_path)
    assert str(registry.resolve("pets")) == "pets@3"
    assert str(registry.resolve("mobilenet_v2")) == "mobilenet_v2@1"
    assert registry.labels(registry.resolve("pets@3")) == [("a", "cat"), ("b", "dog")]
    for unknown in ("dogs", "pets@4", "../pets", "pets@0", "", "a/b", "PETS"):
        with pytest.raises(UnknownModel):
            registry.resolve(unknown)


def test_file_that_is_not_the_one_on_the_card_is_refused(tmp_path: Path) -> None:
    registry = registry_with_model(tmp_path)
    (tmp_path / "pets" / "3" / "labels.csv").write_text("index,wnid,label\n0,a,lion\n")
    with pytest.raises(ModelUnavailable, match="its card says"):
        registry.labels(registry.resolve("pets"))


@pytest.mark.parametrize("text", ["0,a", "0,a,x\0y", "0,a,\x1b[31mred", "0", "0,a,b\n\n1"])
def test_a_class_without_a_name_is_no_class(tmp_path: Path, text: str) -> None:
    registry = registry_with_model(tmp_path)
    labels = tmp_path / "pets" / "3" / "labels.csv"
    labels.write_text(f"index,wnid,label\n{text}\n")
    card = json.loads((labels.parent / "card.json").read_text())
    card["files"]["labels.csv"] = sha256(labels)
    (labels.parent / "card.json").write_text(json.dumps(card))
    with pytest.raises(ModelUnavailable, match=r"its class \d has no name"):
        registry.labels(registry.resolve("pets"))


SOUND = '"geometry": "squash", "resize_ratio": 1, "classes": 2'


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"input_size": "x"}', "\0", "[" * 100_000,
        f'{{"input_size": {"9" * 400}, {SOUND}, "files": {{}}}}',
        f'{{"input_size": 224, {SOUND}, "files": {{"a": 1}}}}',
        f'{{"input_size": 224, {SOUND}, "files": ["ab"]}}',
        f'{{"input_size": "{"x" * 100_000}"}}',
    ],
)  # fmt: skip
def test_broken_card_is_said(tmp_path: Path, text: str) -> None:
    registry = registry_with_model(tmp_path)
    (tmp_path / "pets" / "3" / "card.json").write_text(text)
    with pytest.raises(ModelUnavailable, match=r"card\.json") as refused:
        registry.card(registry.resolve("pets"))
    assert len(str(refused.value)) < 1000
