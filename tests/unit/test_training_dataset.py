"""What a dataset lists, what is found in it, and on which side of the split each image is."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tagmill.drawing import draw_dataset
from tagmill.errors import SourceError
from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.sources import open_source
from tagmill.training import CORRECTIONS
from tagmill_worker.training import dataset as listing_of
from tagmill_worker.training.contents import Dataset, Read, make_dataset
from tagmill_worker.training.dataset import Example, Listed, list_dataset
from tagmill_worker.training.manifest import in_manifest


@pytest.fixture
def listing(settings: Settings, tmp_path: Path) -> Any:
    def listed(place: Path, **more: Any) -> Listed:
        allowed = settings.model_copy(update={"roots": (tmp_path,)})
        return list_dataset(str(place), settings=allowed, s3=S3(allowed), **more)

    return listed


def example(label: str, number: int) -> Example:
    return Example(uri=f"file:///d/{label}/{number}.png", version="1-1", label=label)


def read(label: str, number: int) -> Read:
    digest = hashlib.sha256(f"{label} {number}".encode()).hexdigest()
    return Read(digest=digest, version="1-1")


def listed_of(**counts: int) -> tuple[Listed, list[Read]]:
    pairs = [(label, n) for label, count in counts.items() for n in range(count)]
    examples = tuple(example(*pair) for pair in pairs)
    return Listed(name="file:///d", examples=examples), [read(*pair) for pair in pairs]


def kinds(dataset: Dataset) -> list[str]:
    return [finding.kind for finding in dataset.findings]


def test_a_folder_per_class_is_a_dataset_and_stray_images_are_found(
    listing: Any, tmp_path: Path
) -> None:
    folder = draw_dataset(tmp_path / "set", range(2))
    (folder / "stray.png").write_bytes(b"")
    (folder / "disc" / "notes.txt").write_text("no image")
    listed = listing(folder)
    assert [e.label for e in listed.examples] == ["disc"] * 2 + ["square"] * 2 + ["stripes"] * 2
    assert [finding.kind for finding in listed.findings] == ["passed_over", "astray"]


def test_manifests_carry_labels_with_commas_quotes_and_unicode(
    listing: Any, tmp_path: Path
) -> None:
    draw_dataset(tmp_path / "set", range(1))
    labels = ["chats, petits", unicodedata.normalize("NFD", "größer"), '"犬"']
    uris = ["set/disc/000.png", "set/square/000.png", "set/stripes/000.png"]
    plain = ["chats, petits", "größer", '"犬"']
    table = tmp_path / "set.csv"
    quoted = ('"{}"'.format(label.replace('"', '""')) for label in labels)
    table.write_text("label,uri\n" + "\n".join(map(",".join, zip(quoted, uris, strict=True))))
    lines = tmp_path / "set.jsonl"
    rows = (json.dumps({"uri": u, "label": x}) for u, x in zip(uris, labels, strict=True))
    lines.write_text("\n\n".join(rows))
    for manifest in (table, lines):
        found = listing(manifest).examples
        assert [e.label for e in found] == plain
        assert all(e.version for e in found)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "uri\nx.png\n", "no column 'label'"),
        ("a.csv", "uri,label\nx.png,\n", "a label is empty"),
        ("a.csv", 'uri,label\nx.png,"two\nlines"\n', "line break"),
        ("a.csv", f"uri,label\nx.png,{'x' * 101}\n", "101 characters, the limit is 100"),
        ("a.csv", "uri,label\nx.png,cat\n", "one class"),
        ("a.csv", "uri,label\n", "no labelled image"),
        ("a.jsonl", '{"uri": "x.png"}\n', "line 1: no text under 'label'"),
        ("a.txt", "x.png\n", "a manifest of a dataset has labels"),
    ],
)
def test_a_manifest_that_is_no_dataset_is_refused_with_its_reason(
    listing: Any, tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=said):
        listing(tmp_path / name)


def test_ten_thousand_classes_are_refused_with_the_limit(listing: Any, tmp_path: Path) -> None:
    rows = "".join(f"{n}.png,class {n}\n" for n in range(10_000))
    (tmp_path / "many.csv").write_text(f"uri,label\n{rows}")
    with pytest.raises(SourceError, match="10,000 classes, the limit is 1,000"):
        listing(tmp_path / "many.csv")


def test_more_images_than_memory_is_meant_for_are_refused_with_the_limit(
    listing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing_of, "MOST_IMAGES", 5)
    folder = draw_dataset(tmp_path / "set", range(2))
    (tmp_path / "list.csv").write_text("uri,label\n" + "a.png,a\nb.png,b\n" * 3)
    for place in (folder, tmp_path / "list.csv"):
        with pytest.raises(SourceError, match="more than 5 images, the limit of a dataset"):
            listing(place)


@pytest.mark.parametrize(
    "rows", ["b.png,b\na.png,a\n", "a.png,b\nb.png,a\n", "a.png,a\n", '"a.png,a\n']
)
def test_a_manifest_that_is_rewritten_while_it_is_listed_is_refused(
    settings: Settings, tmp_path: Path, rows: str
) -> None:
    manifest, s3 = tmp_path / "list.csv", S3(settings)
    manifest.write_text("uri,label\na.png,a\nb.png,b\n")
    source = open_source(str(manifest), leave_out=tmp_path / "state", s3=s3)
    found = in_manifest(source, s3)
    assert next(found)[2] == "a"
    (tmp_path / "new.csv").write_text(f"uri,label\n{rows}")
    (tmp_path / "new.csv").replace(manifest)
    with pytest.raises(SourceError, match="was changed while it was read"):
        list(found)


def test_an_empty_folder_and_one_class_are_refused(listing: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="no labelled image"):
        listing(tmp_path / "empty")
    with pytest.raises(SourceError, match="one class, 'disc'"):
        listing(draw_dataset(tmp_path / "one", range(3), ("disc",)))


def test_a_dataset_outside_the_roots_is_refused(settings: Settings, tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", range(1))
    with pytest.raises(SourceError, match="outside the allowed folders"):
        list_dataset(str(folder), settings=settings, s3=S3(settings))


def test_a_folder_whose_name_no_terminal_should_see_is_refused(
    listing: Any, tmp_path: Path
) -> None:
    folder = draw_dataset(tmp_path / "set", range(1))
    (folder / "disc").rename(folder / "di\nsc\x1b[31m")
    with pytest.raises(SourceError, match=r"di\\nsc"):
        listing(folder)


def test_corrections_replace_labels_and_add_images(listing: Any, tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", range(1))
    first = listing(folder).examples[0]
    listed = listing(folder, corrections={first.uri: "round", "s3://b/new.jpg": "square"})
    assert listed.examples[0].label == "round"
    added = Example(uri="s3://b/new.jpg", version="", label="square", is_corrected=True)
    assert listed.examples[-1] == added
    assert not any(example.is_corrected for example in listed.examples[1:-1])


def test_corrections_alone_are_a_dataset(listing: Any, tmp_path: Path) -> None:
    folder = draw_dataset(tmp_path / "set", range(1))
    said = {example.uri: example.label for example in listing(folder).examples}
    listed = listing(CORRECTIONS, corrections=said)
    assert [(e.uri, e.label) for e in listed.examples] == sorted(said.items())
    assert all(example.version for example in listed.examples), "files are not read each night"
    with pytest.raises(SourceError, match="corrections: has no labelled image"):
        listing(CORRECTIONS)


def test_correction_stands_over_other_places_of_the_same_image() -> None:
    listed, reads = listed_of(cat=30, dog=30)
    corrected = replace(example("cat", 99), is_corrected=True)
    read_too = replace(read("dog", 3), version=corrected.version)
    dataset = make_dataset(
        replace(listed, examples=(*listed.examples, corrected)), [*reads, read_too]
    )
    assert not dataset.findings
    assert len(dataset.examples) == 60
    assert np.count_nonzero(dataset.labels == dataset.classes.index("cat")) == 31


def test_a_content_stays_on_its_side_whatever_comes_and_goes() -> None:
    small = make_dataset(*listed_of(cat=30, dog=30))
    large = make_dataset(*listed_of(ant=40, cat=60, dog=29))
    sides = dict(zip(large.digests, large.is_holdout.tolist(), strict=True))
    shared = [d for d in small.digests if d in sides]
    assert len(shared) == 59
    before = dict(zip(small.digests, small.is_holdout.tolist(), strict=True))
    assert all(before[digest] == sides[digest] for digest in shared)
    assert 0.1 < large.is_holdout.mean() < 0.3
    assert not (large.is_holdout & large.is_validation).any()


def test_the_fingerprint_follows_contents_and_labels_and_nothing_else() -> None:
    listed, contents = listed_of(cat=9, dog=9)
    moved = Listed(
        name="file:///elsewhere",
        examples=tuple(
            Example(uri=f"file:///e/{n}", version="2-2", label=e.label)
            for n, e in enumerate(reversed(listed.examples))
        ),
    )
    one = make_dataset(listed, contents)
    assert make_dataset(moved, contents[::-1]).fingerprint == one.fingerprint
    other, more = listed_of(cat=9, dog=10)
    assert make_dataset(other, more).fingerprint != one.fingerprint


def test_copies_count_once_and_one_content_under_two_labels_is_left_out() -> None:
    listed, contents = listed_of(cat=30, dog=30)
    contents[1] = contents[0]  # a copy
    contents[38] = contents[8]  # a dog that is called a cat too
    dataset = make_dataset(listed, contents)
    assert len(dataset.digests) == 57
    assert kinds(dataset) == ["two_labels"]
    assert "dog/8.png (dog)" in dataset.findings[0].said


def test_classes_of_too_few_images_are_left_out_by_name() -> None:
    dataset = make_dataset(*listed_of(cat=9, dog=9, eel=1))
    assert dataset.classes == ("cat", "dog")
    assert "eel (1)" in dataset.findings[0].said
    with pytest.raises(SourceError, match=r"leaves 1 of the two classes.*eel \(1\)"):
        make_dataset(*listed_of(cat=9, eel=1))


def test_unreadable_and_changed_images_are_told() -> None:
    listed, contents = listed_of(cat=9, dog=9)
    contents[0] = Read(error="corrupt: the JPEG ends early")
    contents[1] = Read(digest=contents[1].digest, version="2-2")
    dataset = make_dataset(listed, contents)
    assert kinds(dataset) == ["unreadable", "changed"]
    assert dataset.findings[0].examples == ("/d/cat/0.png: corrupt: the JPEG ends early",)
    assert len(dataset.digests) == 17


def test_a_tenth_of_images_that_cannot_be_read_is_the_limit() -> None:
    listed, contents = listed_of(cat=15, dog=15)
    contents[:3] = [Read(error="not_found: the file is not there")] * 3
    assert kinds(make_dataset(listed, contents)) == ["unreadable"]
    contents[3] = contents[0]
    with pytest.raises(SourceError, match=r"4 of 30 images.*that is 13\.3 %, the limit is 10 %"):
        make_dataset(listed, contents)
