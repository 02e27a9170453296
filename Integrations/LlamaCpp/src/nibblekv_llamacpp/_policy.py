"""A policy as a container keeps it: with its text, not with the name of a file."""

from __future__ import annotations

from pathlib import Path

from nibblekv import InvalidPolicyError

from ._files import StrPath


def policy_text(policy: StrPath) -> str:
    """The text of a policy file; a preset, a short form or a text as it is."""
    if isinstance(policy, str) and not is_file_name(policy):
        return policy
    try:
        text = Path(policy).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidPolicyError(f"the policy {policy} cannot be read: {error}") from error
    # The line's end tells the library that this is a text.
    return text if "\n" in text else text + "\n"


def is_file_name(policy: str) -> bool:
    """Whether the library would take it for a file's name."""
    if "\n" in policy or policy.startswith("{"):
        return False
    return "/" in policy or policy.endswith((".yaml", ".yml", ".json"))
