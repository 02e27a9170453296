"""The file that a compressed state is kept in; Specs/llama-state.md describes it."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from nibblekv import FileFailedError, UnsupportedError
from nibblekv.policies import is_file_name

from ._files import copy, opened, replacing
from ._layout import State, read_frame

MAGIC = b"NibbleLS"
VERSION = 1
# Magic, version, bytes of the description, of the frame and of the file.
_HEAD = struct.Struct("<8sIIQQ")
_DIGEST_BYTES = 32
_LONGEST_DESCRIPTION = 1 << 20
# Heads, and channels of one, that a session may have.
_MOST_IN_SHAPE = 512


@dataclass(frozen=True)
class Session:
    """The session file of one stream."""

    kv_heads: int
    head_dim: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Description:
    """What a container says of itself."""

    policy: str
    """A preset, a short form, or the text of a policy file; never a file's name."""
    state_bytes: int
    """Of the state that was compressed."""
    state_sha256: str
    sessions: tuple[Session, ...]
    """One a stream with cells, in the order of the state."""


@dataclass(frozen=True)
class Container:
    """A container that was read, all but its sessions."""

    path: Path
    size: int
    description: Description
    frame: bytes
    state: State
    sessions_offset: int


def write(path: Path, description: Description, frame: bytes, sessions: Sequence[Path]) -> None:
    """Writes a container in place of what is at ``path``, as a whole or not at all."""
    text = json.dumps(asdict(description)).encode()
    if len(text) > _LONGEST_DESCRIPTION:
        raise UnsupportedError(
            f"the description would have {len(text)} bytes, the policy among them; expected at "
            f"most {_LONGEST_DESCRIPTION}"
        )
    begin = _HEAD.size + _DIGEST_BYTES + len(text) + len(frame)
    size = begin + sum(session.bytes for session in description.sessions)
    head = _HEAD.pack(MAGIC, VERSION, len(text), len(frame), size)
    with replacing(path) as target:
        target.write(head + hashlib.sha256(head + text + frame).digest() + text)
        target.write(frame)
        for session, source in zip(description.sessions, sessions, strict=True):
            with opened(source) as (file, _):
                copy(file, session.bytes, target, str(source))


def is_container(file: BinaryIO) -> bool:
    begins = file.read(len(MAGIC)) == MAGIC
    file.seek(0)
    return begins


def read(file: BinaryIO, size: int, path: Path) -> Container:
    """Reads and checks everything but the sessions.

    Raises:
        FileFailedError: It is damaged, cut short, too long, or no container.
        UnsupportedError: It has another version.
    """
    if size < _HEAD.size + _DIGEST_BYTES:
        raise FileFailedError(f"{path} has {size} bytes, too few for a compressed state")
    head = file.read(_HEAD.size)
    magic, version, text_bytes, frame_bytes, stated = _HEAD.unpack(head)
    if magic != MAGIC:
        raise FileFailedError(f"{path} begins with {magic!r}, not as a compressed state, {MAGIC!r}")
    if version != VERSION:
        raise UnsupportedError(
            f"{path} has version {version} of compressed states; known is {VERSION}"
        )
    if stated != size:
        raise FileFailedError(f"{path} has {size} bytes; its head says {stated}")
    begin = _HEAD.size + _DIGEST_BYTES + text_bytes + frame_bytes
    if text_bytes > _LONGEST_DESCRIPTION or begin > size:
        raise FileFailedError(
            f"the head of {path} names {text_bytes} bytes of description and {frame_bytes} of "
            f"frame; the file has {size}, and a description at most {_LONGEST_DESCRIPTION}"
        )
    digest = file.read(_DIGEST_BYTES)
    text, frame = file.read(text_bytes), file.read(frame_bytes)
    if hashlib.sha256(head + text + frame).digest() != digest:
        raise FileFailedError(f"{path} is damaged: the digest of bytes 0 to {begin - 1} is wrong")
    description = _description(text, path)
    state = read_frame(frame, f"the frame of {path}")
    _check(description, state, begin, size, path)
    return Container(path, size, description, frame, state, begin)


def extract(container: Container, index: int, file: BinaryIO, target: Path) -> None:
    """Copies one session to a file of its own, and checks it."""
    before = sum(session.bytes for session in container.description.sessions[:index])
    session = container.description.sessions[index]
    offset = container.sessions_offset + before
    file.seek(offset)
    with target.open("xb") as copied:
        digest = copy(file, session.bytes, copied, str(container.path))
    if digest != session.sha256:
        end = offset + session.bytes - 1
        raise FileFailedError(
            f"{container.path} is damaged: the digest of session {index}, bytes {offset} to {end}, "
            "is wrong"
        )


def _check(description: Description, state: State, begin: int, size: int, path: Path) -> None:
    """What the digests cannot tell: that the parts belong to each other."""
    if state.size != description.state_bytes:
        raise FileFailedError(
            f"the frame of {path} is of a state of {state.size} bytes; its description says "
            f"{description.state_bytes}"
        )
    streams = state.streams
    if len(streams) != len(description.sessions):
        raise FileFailedError(
            f"{path} has {len(description.sessions)} sessions for {len(streams)} streams"
        )
    end = begin + sum(session.bytes for session in description.sessions)
    if end != size:
        raise FileFailedError(f"the sessions of {path} end at byte {end}; the file has {size}")
    for index, (session, stream) in enumerate(zip(description.sessions, streams, strict=True)):
        if max(session.kv_heads, session.head_dim) > _MOST_IN_SHAPE:
            raise FileFailedError(
                f"session {index} of {path} has {session.kv_heads} KV heads of {session.head_dim} "
                f"channels; expected at most {_MOST_IN_SHAPE} of each"
            )
        channels = session.kv_heads * session.head_dim
        for block in (*stream.keys, *stream.values):
            if block.channels != channels:
                raise FileFailedError(
                    f"session {index} of {path} has {channels} channels; rows of its stream have "
                    f"{block.channels}"
                )


def _description(text: bytes, path: Path) -> Description:
    try:
        fields = json.loads(text)
        sessions = fields.pop("sessions")
        description: Description = _typed(
            Description(
                sessions=tuple(_typed(Session(**session)) for session in sessions), **fields
            )
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise FileFailedError(f"the description of {path} cannot be read: {error}") from error
    if is_file_name(description.policy):
        raise FileFailedError(f"the policy of {path} is the name of a file")
    return description


def _typed(value: Any) -> Any:
    """Refuses fields of another type, and negative numbers."""
    for name, field in asdict(value).items():
        kind = type(value).__annotations__[name]
        if kind == "int" and (type(field) is not int or field < 0):
            raise TypeError(f"{name} is {field!r}; expected a whole number")
        if kind == "str" and type(field) is not str:
            raise TypeError(f"{name} is {field!r}; expected a text")
    return value
