"""The probe refuses what a lane would label with wrongly, and the report shows only text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tagmill.s3 import S3
from tagmill.settings import Settings
from tagmill.thumbnails import Thumbnails
from tagmill_worker.training.contents import Dataset
from tagmill_worker.training.dataset import Example, Finding
from tagmill_worker.training.evaluation import compare, evaluate
from tagmill_worker.training.probe import Probed, judge
from tagmill_worker.training.report import Facts, write_report

LABELS = ["ant", "bee"]
SOUND = np.array([[0.9, 0.1], [0.2, 0.8]] * 20, np.float32)


def said(scores: np.ndarray) -> list[str]:
    return [LABELS[i % 2] for i in scores.argmax(axis=1)]


@pytest.mark.parametrize(
    ("scores", "wanted", "why"),
    [
        (SOUND, SOUND, ""),
        (SOUND * np.float32(np.nan), SOUND, "no numbers"),
        (SOUND * 2, SOUND, "add up to 2.000"),
        (SOUND[:, :1], SOUND, "1 scores, the network 2"),
        (np.tile(SOUND, 2) / 2, np.tile(SOUND, 2) / 2, "has 2 labels"),
        (SOUND, SOUND[:, ::-1], "labels 0 % of 40 images as the trained network does"),
    ],
)
def test_a_version_passes_only_if_it_labels_as_it_was_trained(
    scores: np.ndarray, wanted: np.ndarray, why: str
) -> None:
    found = judge(scores, wanted, said=said(scores), labels=LABELS)
    assert found.passed is (not why)
    assert why in found.said


def test_a_report_shows_hostile_labels_and_names_as_text(
    settings: Settings, tmp_path: Path
) -> None:
    hostile = "<script>alert(1)</script>"
    examples = tuple(
        Example(uri=f"file:///{tmp_path}/%3Cb%3E{n}.png", version="1-1", label=hostile)
        for n in range(4)
    )
    labels = np.array([0, 1, 0, 1])
    logits = np.array([[1, 0], [1, 0], [0, 1], [0, 1]], np.float32)
    evaluation = evaluate(logits, labels, (hostile, '"><img>'), np.zeros(4, np.int64))
    dataset = Dataset(
        name=f"file:///{hostile}",
        classes=(hostile, '"><img>'),
        examples=examples,
        digests=("a", "b", "c", "d"),
        labels=labels,
        is_holdout=np.array([True] * 4),
        is_validation=np.array([False] * 4),
        findings=(Finding(kind="unreadable", said=hostile, examples=(hostile, hostile)),),
        fingerprint="f",
    )
    facts = Facts(
        version="pets@2",
        dataset=dataset,
        evaluation=evaluation,
        comparison=compare(labels == 0, labels == 1, name="pets@1"),
        probed=Probed(passed=False, said=hostile),
        is_better=False,
        said=hostile,
        parameters={hostile: hostile},
    )
    thumbnails = Thumbnails(tmp_path / "thumbnails", settings=settings, s3=S3(settings))
    write_report(tmp_path / "report.html", facts, thumbnails)
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html
    assert "<img>" not in html
    assert "&lt;script&gt;" in html
    assert "no longer there" in html
    assert "http" not in html.replace("http-equiv", "")  # self-contained
