"""The file beside a session that has what a prompt cache knows and a session does not.

``NAME.session.mlx.json`` is UTF-8, a JSON object with three fields:

- ``format``: 1.
- ``sha256``: of the bytes of ``content`` as JSON with sorted keys, without spaces, ASCII alone.
- ``content``: ``session`` is the SHA-256 of the session's first 8,192 bytes, its superblocks, whose
  digests cover the rest of it; ``shape``, ``policy`` and ``fingerprint`` make a cache for the
  session; ``metadata`` and ``scalars`` are those of the prompt cache file, and ``layers`` are the
  fields of ``Layer``.

It is written after the session, and read with it alone: another session of that name is refused.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import nibblekv
from nibblekv import FileFailedError, OtherSessionError, UnsupportedError
from nibblekv.files import replacing
from nibblekv.policies import is_file_name

from ._layers import Layer, check_placed

_FORMAT = 1
_SUPERBLOCKS = 8192


@dataclass(frozen=True)
class Shape:
    """What a cache for the session is made with."""

    layers: int
    query_heads: int
    kv_heads: int
    head_dim: int


@dataclass(frozen=True)
class Sidecar:
    """What is beside a session."""

    shape: Shape
    policy: str
    """Its text, not the name of its file."""
    fingerprint: str | None
    metadata: dict[str, str]
    scalars: dict[str, int]
    """Arrays without a dimension, by their names."""
    layers: list[Layer]

    def cache(self, threads: int | None = None) -> nibblekv.Cache:
        """An empty cache for the session."""
        return nibblekv.Cache(
            **asdict(self.shape),
            policy=self.policy,
            fingerprint=self.fingerprint,
            threads=threads,
        )

    def write(self, session: Path) -> None:
        """Writes it beside a session that is complete."""
        content = {"session": _digest_of(session), **asdict(self)}
        text = json.dumps(
            {"format": _FORMAT, "sha256": _checksum(content), "content": content}, indent=1
        )
        with replacing(path_for(session)) as unfinished:
            unfinished.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, session: Path) -> Sidecar:
        """What is beside a session.

        Raises:
            FileFailedError: One of the two cannot be read, or the file beside is damaged.
            OtherSessionError: The session is not the one that the file beside was written for.
        """
        path = path_for(session)
        content = _content(path)
        if content.pop("session", None) != _digest_of(session):
            raise OtherSessionError(f"{session} is not the session that {path} was written for")
        try:
            sidecar = cls(
                shape=_built(Shape, content.pop("shape")),
                layers=[_built(Layer, layer) for layer in content.pop("layers")],
                **content,
            )
            _check(sidecar)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFailedError(f"{path} has wrong fields: {error}") from error
        return sidecar


def path_for(session: Path) -> Path:
    """The name of the file beside a session."""
    return session.with_name(session.name + ".mlx.json")


def _content(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        raise FileFailedError(f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise FileFailedError(f"{path} does not describe a prompt cache")
    if document["format"] != _FORMAT:
        raise UnsupportedError(f"{path} has format {document['format']}; expected {_FORMAT}")
    content = document.get("content")
    if not isinstance(content, dict) or document.get("sha256") != _checksum(content):
        raise FileFailedError(f"{path} is damaged: its checksum is wrong")
    return content


def _checksum(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _digest_of(session: Path) -> str:
    try:
        with session.open("rb") as file:
            return hashlib.sha256(file.read(_SUPERBLOCKS)).hexdigest()
    except OSError as error:
        raise FileFailedError(f"{session} cannot be read: {error}") from error


def _built(kind: type[Any], given: dict[str, Any]) -> Any:
    """A value of a data class, each field of the type that the class declares."""
    built = kind(**given)
    hints = get_type_hints(kind)
    for field in fields(built):
        wanted, value = hints[field.name], getattr(built, field.name)
        wanted = getattr(wanted, "__origin__", wanted)
        if type(value) is not wanted:
            raise ValueError(f"{field.name} is {value!r}; expected {wanted.__name__}")
    return built


def _check(sidecar: Sidecar) -> None:
    if len(sidecar.layers) != sidecar.shape.layers:
        raise ValueError(f"{len(sidecar.layers)} layers; expected {sidecar.shape.layers}")
    for number, layer in enumerate(sidecar.layers):
        check_placed(layer, f"layer {number}")
    if "2.0" not in sidecar.metadata:
        raise ValueError("metadata names no caches")
    texts = (*sidecar.metadata, *sidecar.metadata.values(), *sidecar.scalars, sidecar.policy)
    if sidecar.fingerprint is not None:
        texts = (*texts, sidecar.fingerprint)
    numbers = sidecar.scalars.values()
    if any(type(text) is not str for text in texts) or any(type(n) is not int for n in numbers):
        raise ValueError("expected texts, and whole numbers for scalars")
    if is_file_name(sidecar.policy):
        raise ValueError("the policy is the name of a file")
