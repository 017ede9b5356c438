"""What a user may set, read from the environment once and passed inwards.

Every field is the variable ``TAGMILL_`` plus its name in capitals.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import quote, unquote

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tagmill.errors import UsageError

MIB = 1 << 20


class Settings(BaseSettings):
    """tagmill's settings.

    Secrets (the two URLs may hold passwords) show neither in ``repr`` nor in logs.
    """

    model_config = SettingsConfigDict(
        env_prefix="TAGMILL_",
        frozen=True,
        extra="ignore",
        hide_input_in_errors=True,  # a traceback shows errors, and an input may be a secret
    )

    state_dir: Path = Field(
        Path(".tagmill"), description="Folder of the embedded broker, store, models and logs."
    )
    models: str | None = Field(
        None,
        description="The model registry, a folder or `s3://bucket/prefix`; `STATE_DIR/models` "
        "where unset.",
    )
    weights: Path | None = Field(
        None, description="ImageNet weights (`.h5`) from which `mobilenet_v2@1` is built."
    )
    broker_url: SecretStr | None = Field(
        None, description="The broker of a cluster; `run` always brings its own."
    )
    broker_ca: Path | None = Field(
        None,
        description="File of the certificate authorities that sign the broker's certificate "
        "(`rediss://`, `amqps://`); the system's where unset.",
    )
    broker_master: str | None = Field(
        None, description="Name of the master that the Sentinels of a `sentinel://` broker watch."
    )
    namespace: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,40}$",
        description="Put before the names of queues, for several tagmills on one broker.",
    )
    store_url: SecretStr | None = Field(
        None, description="The results store as an SQLAlchemy URL; SQLite in STATE_DIR where unset."
    )
    roots: Annotated[tuple[Path, ...], NoDecode] = Field(
        (),
        description="Folders that local files may be read from, joined by `:` or as a JSON list; "
        "the source's own folder where unset.",
    )
    buckets: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="S3 buckets that may be read and written, joined by `,`; any where unset."
    )
    s3_path_style: bool = Field(
        False, description="Put the bucket into the path of S3 requests, not into the host's name."
    )
    s3_anonymous: bool = Field(False, description="Send S3 requests without credentials.")
    s3_requester_pays: bool = Field(
        False, description="Agree to pay for S3 requests to buckets whose owner wants that."
    )
    lanes: int | None = Field(
        None, ge=1, le=1024, description="CPU lanes that are started; one per core where unset."
    )
    classifier: str = Field(
        "auto",
        pattern="^(auto|litert|keras)$",
        description="`litert`, `keras`, or `auto`: Keras on a GPU, LiteRT on a CPU.",
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="Images that Keras labels at once; 64 on a GPU and 32 on a CPU where unset.",
    )
    chunk_items: int = Field(256, ge=1, le=1000, description="Items of a chunk at the most.")
    lease_s: float = Field(
        40.0,
        gt=0,
        le=86_400,
        description="Seconds for which a claim on a chunk holds against other lanes, from its last "
        "renewal; a living lane renews it.",
    )
    item_timeout_s: float = Field(
        30.0,
        ge=1,
        description="Seconds that decoding and labelling one image may take; a lane that takes "
        "longer is ended. Below LEASE_S, for a lane that hangs may renew nothing.",
    )
    lane_bytes: int | None = Field(
        None,
        ge=256 * MIB,
        description="Bytes of memory that a lane may take before it is ended; 4 GiB for "
        "labelling on a CPU and any else where unset.",
    )
    max_bytes: int = Field(128 * MIB, ge=1024, description="Bytes of an image file at the most.")
    max_pixels: int = Field(
        128 * MIB, ge=1024, description="Pixels (width × height) of an image at the most."
    )

    @field_validator(
        "broker_url", "broker_ca", "broker_master", "store_url", "models", "weights", mode="before"
    )
    @classmethod
    def _unset_where_empty(cls, value: object) -> object:
        return None if value == "" else value  # as compose files pass what nobody set

    @field_validator("store_url", mode="after")
    @classmethod
    def _check_store_url(cls, value: SecretStr | None) -> SecretStr | None:
        if value is None:
            return None
        kind, _, rest = value.get_secret_value().partition("://")
        if re.split("[/?#]", rest)[0].count("@") > 1:  # half of the password would be the host
            raise ValueError("every '@' of the password is written as %40")
        if kind == "sqlite" and rest.startswith("/") and len(rest) > 1:
            # Else each process would take the path from where it stands.
            path, _, query = rest[1:].partition("?")
            absolute = quote(os.path.abspath(unquote(path)))
            return SecretStr(f"sqlite:///{absolute}" + (f"?{query}" if query else ""))
        if kind in ("postgresql", "postgres"):
            return SecretStr(f"postgresql+psycopg://{rest}")
        if kind == "postgresql+psycopg":
            return value
        raise ValueError("it is postgresql+psycopg://user@host/database or sqlite:///path")

    @field_validator("item_timeout_s", mode="after")
    @classmethod
    def _check_item_timeout(cls, value: float, info: ValidationInfo) -> float:
        lease_s = info.data.get("lease_s")  # it is not there where it is wrong itself
        if lease_s is not None and value >= lease_s:
            raise ValueError(f"its {value:g} s are not below the {lease_s:g} s of TAGMILL_LEASE_S")
        return value

    @field_validator("roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        if isinstance(value, str) and value.startswith("["):
            return _as_json(value)
        if isinstance(value, str):
            return tuple(Path(part) for part in value.split(os.pathsep) if part)
        return value

    @field_validator("buckets", mode="before")
    @classmethod
    def _split_buckets(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("models", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        text = os.fspath(value) if isinstance(value, os.PathLike) else value
        if isinstance(text, str) and not text.startswith("s3:"):
            _expanded(Path(text))  # it is said here if that cannot be
        return text

    @field_validator("state_dir", "weights", "broker_ca", "roots", mode="after")
    @classmethod
    def _expand(cls, value: Path | tuple[Path, ...] | None) -> object:
        if isinstance(value, tuple):
            return tuple(map(_expanded, value))
        return _expanded(value) if value is not None else None

    @property
    def lane_count(self) -> int:
        """CPU lanes that are started."""
        if self.lanes:
            return self.lanes
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    @property
    def models_in_s3(self) -> bool:
        """True where the registry is a prefix in S3."""
        return self.models is not None and self.models.startswith("s3:")

    @property
    def models_dir(self) -> Path:
        """The registry's folder, where it is one."""
        if not self.models or self.models_in_s3:
            return self.state_dir / "models"
        return Path(self.models).expanduser()

    @property
    def models_place(self) -> str:
        """The registry as `models` takes it: a folder or an S3 URI."""
        return self.models if self.models and self.models_in_s3 else str(self.models_dir)

    @property
    def store_address(self) -> str:
        """The store's SQLAlchemy URL, secrets in clear: for the store only.

        Raises:
            UsageError: if the state folder has a name that no URL can hold.
        """
        if self.store_url:  # set to nothing it is unset
            return self.store_url.get_secret_value()
        path = os.path.abspath(self.state_dir / "tagmill.db")
        try:
            return f"sqlite:///{quote(path)}"
        except UnicodeEncodeError as error:
            raise UsageError(
                f"the state folder {path!a:.200} has a name that is not UTF-8: take another with "
                "--state-dir"
            ) from error


def _as_json(text: str) -> object:
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home folder for {path.parts[0]!a:.40}") from error


def load_settings(**overrides: object) -> Settings:
    """Read the environment; command-line options given as ``overrides`` win, ``None`` is no option.

    Raises:
        UsageError: naming every setting that is wrong, all at once.
    """
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)  # type: ignore[arg-type]  # pydantic parses them
    except ValidationError as error:
        faults = "; ".join(
            f"TAGMILL_{'.'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
            for fault in error.errors(include_input=False, include_url=False)
        )
        raise UsageError(f"settings that cannot be: {faults}") from error
