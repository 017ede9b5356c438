"""An NVML with the GPUs that ``FAKE_GPUS`` lists as JSON, for a path before the real one's.

Each is ``{"uuid": …, "name": …}``, with ``"slices": [[number, uuid], …]`` in MIG mode or
``"lost": true``. Without the variable there is no driver.
"""

from __future__ import annotations

import json
import os
from typing import Any


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):  # noqa: N801  # NVML's own name
    pass


class NVMLError_NotFound(NVMLError):  # noqa: N801
    pass


def _gpus() -> list[dict[str, Any]]:
    return json.loads(os.environ["FAKE_GPUS"])


def nvmlInit() -> None:  # noqa: N802
    if "FAKE_GPUS" not in os.environ:
        raise NVMLError("NVML Shared Library Not Found")


def nvmlShutdown() -> None:  # noqa: N802
    pass


def nvmlDeviceGetCount() -> int:  # noqa: N802
    return len(_gpus())


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:  # noqa: N802
    found = _gpus()[index]
    if found.get("lost"):
        raise NVMLError("GPU is lost")
    return found


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> str:  # noqa: N802
    return handle["uuid"]


def nvmlDeviceGetName(handle: dict[str, Any]) -> str:  # noqa: N802
    return handle.get("name", "Fake 9000")


def nvmlDeviceGetMigMode(handle: dict[str, Any]) -> list[int]:  # noqa: N802
    if not handle.get("can_divide", "slices" in handle):
        raise NVMLError_NotSupported("Not Supported")
    return [int("slices" in handle), 0]


def nvmlDeviceGetMaxMigDeviceCount(handle: dict[str, Any]) -> int:  # noqa: N802
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(handle: dict[str, Any], index: int) -> dict[str, Any]:  # noqa: N802
    for number, uuid in handle["slices"]:
        if number == index:
            return {"uuid": uuid, "name": "Fake 9000 MIG 1g.10gb"}
    raise NVMLError_NotFound("Not Found")
