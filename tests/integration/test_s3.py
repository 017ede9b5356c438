"""S3 against a moto server, and its refusals by botocore's stubber."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, NoCredentialsError
from botocore.stub import Stubber

from tagmill.contract import ErrorCode, Item
from tagmill.errors import MissingError, PermanentItemError, SourceError, TransientItemError
from tagmill.s3 import MOST_READ_S, S3, parse_s3_uri, s3_uri
from tagmill.s3.body import read_body
from tagmill.s3.failures import translated
from tagmill.settings import load_settings
from tagmill.sources import open_source
from tagmill_worker.fetch import Fetch, LocalFetch

ODD_KEYS = [
    "a b/c d.jpg", "a+b.jpg", "a%20b.jpg", "ü/🦊.jpg", "a//b.jpg", "./x.jpg", "../x.jpg",
    "q?a=b&c.jpg", "hash#1.jpg", "tab\there.jpg", "UPPER.JPG", "'quote\".jpg", "[x]*.jpg",
    "100%.jpg",
]  # fmt: skip


def listed(uri: str, **settings: object) -> tuple[list[tuple[str, str]], dict[str, int]]:
    source = open_source(uri, leave_out="/nowhere", s3=S3(load_settings(**settings)))  # type: ignore[arg-type]
    return list(source.items()), dict(source.passed_over)


@pytest.mark.parametrize("key", ["", "a", *ODD_KEYS])
def test_any_key_survives_its_uri(key: str) -> None:
    assert parse_s3_uri(s3_uri("bucket", key)) == ("bucket", key)


@pytest.mark.parametrize(
    "uri",
    [
        "s3://",
        "s3:///key",
        "s3:/b/k",
        "file:///x",
        "s3://bkt/\0",
        "",
        "s3://bkt/\udce9",
        "s3://../x",
        "s3://./x",
        "s3://a b/x",
        "s3://bkt/" + "k" * 1025,
    ],
)
def test_what_names_no_object_is_said(uri: str) -> None:
    with pytest.raises(SourceError):
        parse_s3_uri(uri)


def test_odd_keys_are_listed_in_order_and_read_back(bucket: Any) -> None:
    for n, key in enumerate(ODD_KEYS):
        bucket.put_object(Key=key, Body=b"x" * n)
    found, _ = listed(f"s3://{bucket.name}")
    uris = [uri for uri, _ in found]
    assert uris == [s3_uri(bucket.name, key) for key in sorted(ODD_KEYS, key=str.encode)]
    s3 = S3(load_settings())
    for uri, version in found:
        data, read_version = s3.read(uri, max_bytes=100)
        assert len(data) == ODD_KEYS.index(parse_s3_uri(uri)[1])
        assert read_version == version


def test_listing_is_paged_and_keeps_to_the_prefix(bucket: Any) -> None:
    for n in range(1100):
        bucket.put_object(Key=f"in/{n:04}.jpg", Body=b"")
    bucket.put_object(Key="in/notes.md", Body=b"")
    bucket.put_object(Key="in/folder/", Body=b"")
    bucket.put_object(Key="out/x.jpg", Body=b"")
    found, passed_over = listed(f"s3://{bucket.name}/in/")
    assert len(found) == len({uri for uri, _ in found}) == 1100
    assert passed_over == {"no image suffix": 1, "folder marker": 1}
    whole, _ = listed(f"s3://{bucket.name}/in/notes.md")
    assert [uri for uri, _ in whole] == [f"s3://{bucket.name}/in/notes.md"]


def test_version_changes_with_the_object_and_only_then(bucket: Any) -> None:
    versions = []
    for body in (b"one", b"one", b"two"):
        bucket.put_object(Key="a.jpg", Body=body)
        versions.append(listed(f"s3://{bucket.name}/")[0][0][1])
    assert versions[0] == versions[1] != versions[2]


def test_bucket_that_is_not_there_or_not_allowed_is_said(bucket: Any) -> None:
    with pytest.raises(SourceError, match="the bucket is not there"):
        listed("s3://no-such-bucket-here/x")
    with pytest.raises(SourceError, match="not among the allowed ones \\(other\\)"):
        listed(f"s3://{bucket.name}/", buckets="other")


def code_of(uri: str, **settings: object) -> str:
    made = load_settings(**settings)
    fetch = Fetch(LocalFetch([], max_bytes=9), S3(made), max_bytes=made.max_bytes)
    with pytest.raises(PermanentItemError) as caught:
        fetch(Item(n=0, uri=uri, version=""))
    return caught.value.code


def test_a_manifests_line_leads_to_no_bucket_that_is_not_allowed(
    bucket: Any, tmp_path: Path
) -> None:
    bucket.put_object(Key="a.jpg", Body=b"x")
    (tmp_path / "list.txt").write_text(f"s3://{bucket.name}/a.jpg\n")
    ((uri, _),), _ = listed(str(tmp_path / "list.txt"), buckets="other")
    assert code_of(uri, buckets="other") == "outside_roots"


def test_every_refusal_has_its_code(bucket: Any) -> None:
    bucket.put_object(Key="cold.jpg", Body=b"x", StorageClass="GLACIER")
    bucket.put_object(Key="large.jpg", Body=b"x" * 5000)
    assert code_of(f"s3://{bucket.name}/gone.jpg") == "not_found"
    assert code_of("s3://no-such-bucket-here/x.jpg") == "not_found"
    assert code_of("s3://\n/x.jpg") == "not_found"
    assert code_of(f"s3://{bucket.name}/cold.jpg") == "archived"
    assert code_of(f"s3://{bucket.name}/large.jpg", max_bytes=4096) == "too_large"
    assert code_of(f"s3://{bucket.name}/large.jpg", buckets="other,another") == "outside_roots"
    dotted = f"s3://{bucket.name}/../other/large.jpg"
    assert code_of(dotted, buckets=bucket.name) == "outside_roots"
    assert code_of(f"s3://{bucket.name}/") == "not_found"


@pytest.mark.parametrize(
    ("code", "message", "status", "expected"),
    [
        ("AccessDenied", "no", 403, ErrorCode.FORBIDDEN),
        ("403", "Forbidden", 403, ErrorCode.FORBIDDEN),
        ("AccessDenied", "not authorized to perform: kms:Decrypt", 403, ErrorCode.FORBIDDEN),
        ("KMS.DisabledException", "key is disabled", 400, ErrorCode.FORBIDDEN),
        ("NoSuchKey", "gone", 404, ErrorCode.NOT_FOUND),
        ("InvalidObjectState", "restore it", 403, ErrorCode.ARCHIVED),
        ("SlowDown", "reduce your rate", 503, ErrorCode.UNAVAILABLE),
        ("InternalError", "sorry", 500, ErrorCode.UNAVAILABLE),
        ("KMS.ThrottlingException", "slower", 503, ErrorCode.UNAVAILABLE),
        ("RequestTimeTooSkewed", "clock", 403, ErrorCode.UNAVAILABLE),
        ("InvalidRequest", "SSE-C", 400, ErrorCode.FORBIDDEN),
        ("PermanentRedirect", "elsewhere", 301, ErrorCode.FORBIDDEN),
    ],
)
def test_answers_of_s3_mean_an_outcome(
    bucket: Any, code: str, message: str, status: int, expected: ErrorCode
) -> None:
    s3 = S3(load_settings())
    kind = TransientItemError if expected is ErrorCode.UNAVAILABLE else PermanentItemError
    with Stubber(s3._client) as stub:
        stub.add_client_error("get_object", code, message, status)
        with pytest.raises(kind) as caught:
            s3.read("s3://bkt/k.jpg", max_bytes=10)
    assert caught.value.code is expected
    if expected is ErrorCode.FORBIDDEN:
        assert ("KMS" in caught.value.message) == ("kms" in message or code.startswith("KMS"))


def test_missing_credentials_and_time_outs_are_told_apart() -> None:
    missing = translated(NoCredentialsError())
    assert missing.code is ErrorCode.FORBIDDEN
    assert "TAGMILL_S3_ANONYMOUS" in missing.message
    assert isinstance(translated(ConnectTimeoutError(endpoint_url="x")), TransientItemError)


def test_requests_are_made_as_the_settings_say(bucket: Any) -> None:
    seen: dict[str, Any] = {}
    s3 = S3(load_settings(s3_requester_pays=True, s3_anonymous=True, s3_path_style=True))
    s3._client.meta.events.register(
        "before-send.s3.GetObject",
        lambda request, **_: seen.update(headers=dict(request.headers), url=request.url),
    )
    with pytest.raises(PermanentItemError):
        s3.read(f"s3://{bucket.name}/k.jpg", max_bytes=10)
    assert f"/{bucket.name}/k.jpg" in seen["url"]
    assert "Authorization" not in seen["headers"]
    assert seen["headers"]["x-amz-request-payer"] in (b"requester", "requester")


class Body(io.BytesIO):
    """A body that comes as a server sends it."""


def test_a_body_is_held_to_its_length_the_limit_and_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read_body(Body(b"12345"), 5, 10) == read_body(Body(b"12345"), None, 10) == b"12345"
    with pytest.raises(TransientItemError, match="ended after 5 of 9 bytes"):
        read_body(Body(b"12345"), 9, 10)
    for size in (11, None):
        with pytest.raises(PermanentItemError) as caught:
            read_body(Body(b"x" * 11), size, 10)
        assert caught.value.code is ErrorCode.TOO_LARGE
    clock = iter([0.0, MOST_READ_S + 1])
    monkeypatch.setattr("tagmill.s3.body.time.monotonic", lambda: next(clock))
    with pytest.raises(TransientItemError, match="given up"):
        read_body(Body(b"12345"), 5, 10)


def test_wrong_endpoints_are_one_clear_error_without_their_password(
    monkeypatch: pytest.MonkeyPatch, bucket: Any
) -> None:
    for wrong in ("localhost:9000", "http://"):
        monkeypatch.setenv("AWS_ENDPOINT_URL", wrong)
        with pytest.raises(MissingError, match=r"S3 cannot be used: .*AWS_ENDPOINT_URL"):
            S3(load_settings()).read("s3://bkt/k.jpg", max_bytes=10)
    monkeypatch.undo()
    error = EndpointConnectionError(endpoint_url="http://user:hush@127.0.0.1:1/")
    assert "hush" not in translated(error).message
    assert "only redirects" in translated(RecursionError()).message
