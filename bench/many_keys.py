"""S3 servers that hold very many keys, as `python -m bench.many_keys KIND PORT COUNT`.

``moto`` is moto's own server, whose bucket is filled by way of its Python objects, since as many
requests would take too long. Each of its answers looks through all of its keys. ``sorted`` is a
stand-in that answers ListObjectsV2 from a sorted list and knows nothing else.
"""

from __future__ import annotations

import signal
import sys
from bisect import bisect_left, bisect_right
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

BUCKET = "very-many"
PER_FOLDER = 1_000
_PAGE = 1000
_TAG = "d41d8cd98f00b204e9800998ecf8427e"


def keys(count: int) -> list[str]:
    """So many keys, sorted."""
    return [f"photographs/{n // PER_FOLDER:04}/{n % PER_FOLDER:06}.jpg" for n in range(count)]


def serve_moto(port: int, count: int) -> None:
    """Run moto with a filled bucket, until told to stop."""
    from moto.core import DEFAULT_ACCOUNT_ID
    from moto.moto_server.threaded_moto_server import ThreadedMotoServer
    from moto.s3.models import FakeKey, s3_backends

    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    bucket = backend.create_bucket(BUCKET, "us-east-1")
    first = backend.put_object(BUCKET, "template", b"tiny")
    first.etag  # noqa: B018  # is computed when it is asked for
    del bucket.keys["template"]
    for name in keys(count):
        # A share of the first one's bytes and rights: each of its own takes kilobytes.
        key = object.__new__(FakeKey)
        key.__dict__ = {**first.__dict__, "name": name}
        bucket.keys[name] = key
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    signal.pause()


class SortedKeys(BaseHTTPRequestHandler):
    """Answers ListObjectsV2: prefix, delimiter, start-after and continuation-token."""

    protocol_version = "HTTP/1.1"
    keys: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        prefix = asked.get("prefix", "")
        after = max(asked.get("continuation-token", ""), asked.get("start-after", ""))
        start = max(bisect_left(self.keys, prefix), bisect_right(self.keys, after))
        page, last, is_truncated = self._page(prefix, asked.get("delimiter", ""), start)
        token = f"<NextContinuationToken>{last}</NextContinuationToken>" if is_truncated else ""
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{BUCKET}</Name><Prefix>{prefix}</Prefix><MaxKeys>{_PAGE}</MaxKeys>"
            f"<IsTruncated>{str(is_truncated).lower()}</IsTruncated>{token}{''.join(page)}"
            "</ListBucketResult>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _page(self, prefix: str, delimiter: str, start: int) -> tuple[list[str], str, bool]:
        page: list[str] = []
        last = ""
        while start < len(self.keys) and self.keys[start].startswith(prefix):
            if len(page) == _PAGE:
                return page, last, True
            key = self.keys[start]
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            if cut < 0:
                page.append(
                    f"<Contents><Key>{key}</Key><LastModified>2026-11-24T00:00:00.000Z"
                    f"</LastModified><ETag>&quot;{_TAG}&quot;</ETag><Size>4</Size>"
                    "<StorageClass>STANDARD</StorageClass></Contents>"
                )
                last, start = key, start + 1
            else:
                folder = key[: cut + 1]
                page.append(f"<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>")
                last = folder + chr(sys.maxunicode)
                start = bisect_left(self.keys, last)
        return page, last, False

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def serve_sorted(port: int, count: int) -> None:
    """Run the stand-in, until told to stop."""
    SortedKeys.keys = keys(count)
    server = ThreadingHTTPServer(("127.0.0.1", port), SortedKeys)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    {"moto": serve_moto, "sorted": serve_sorted}[sys.argv[1]](*map(int, sys.argv[2:]))
