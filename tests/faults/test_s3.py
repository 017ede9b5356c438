"""An S3 that fails now and then costs no image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from bench.faulty_proxy import FAULTS, FaultyProxy
from support.command import Tagmill


@pytest.fixture
def proxy(s3_server: dict[str, str]) -> Iterator[FaultyProxy]:
    made = FaultyProxy(urlsplit(s3_server["AWS_ENDPOINT_URL"]).port or 0)
    yield made
    made.close()


def test_every_image_is_labelled_though_a_tenth_of_requests_fail(
    tagmill: Tagmill, bucket: Any, s3_server: dict[str, str], photos: list[Path], proxy: FaultyProxy
) -> None:
    for photo in photos:
        bucket.put_object(Key=photo.name, Body=photo.read_bytes())
    tagmill.environment.update(s3_server)
    endpoint = f"http://127.0.0.1:{proxy.port}"
    done = tagmill("run", f"s3://{bucket.name}/", "--out", "s3.jsonl", AWS_ENDPOINT_URL=endpoint)
    assert f"{len(photos)} labelled, 0 failed in" in done.stderr
    rows = tagmill.rows("s3.jsonl")
    assert len({row["uri"] for row in rows}) == len(rows) == len(photos)
    assert set(proxy.faults) == set(FAULTS)
    assert sum(proxy.faults.values()) >= len(photos) // 10
    again = tagmill("run", f"s3://{bucket.name}/", AWS_ENDPOINT_URL=s3_server["AWS_ENDPOINT_URL"])
    assert f"0 labelled, 0 failed, {len(photos)} labelled before" in again.stderr
