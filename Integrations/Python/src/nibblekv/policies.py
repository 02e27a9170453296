"""Policies that are kept beside what they compressed: as texts, never as names of files."""

from __future__ import annotations

import os
from pathlib import Path

from .errors import InvalidPolicyError


def policy_text(policy: str | os.PathLike[str]) -> str:
    """The text of a policy file; a preset, a short form or a text as it is.

    Raises:
        InvalidPolicyError: The file cannot be read.
    """
    if isinstance(policy, str) and not is_file_name(policy):
        return policy
    try:
        text = Path(policy).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise InvalidPolicyError(f"the policy {policy} cannot be read: {error}") from error
    # The line's end tells the library that this is a text.
    return text if "\n" in text else text + "\n"


def is_file_name(policy: str) -> bool:
    """Whether the library would take it for a file's name."""
    # A brace with an accent is another character to the library.
    if "\n" in policy or (policy.startswith("{") and policy[1:2].isascii()):
        return False
    return "/" in policy or policy.endswith((".yaml", ".yml", ".json"))
