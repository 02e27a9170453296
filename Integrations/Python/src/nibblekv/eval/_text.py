"""Documents of token ids, from the files that ``nibble eval`` takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerFast

from ..errors import InvalidArgumentError


def documents_of(
    config: Any,
    folder: Path,
    *,
    text: Path | None = None,
    tokens: Path | None = None,
    count: int | None = None,
    limit: int | None = None,
) -> list[list[int]]:
    """Reads documents; one that is longer than the model's context is cut there.

    Args:
        config: The model's.
        folder: Where its tokenizer is.
        text: UTF-8 text, or a JSON array of strings. Each document begins with the model's
            beginning-of-text token where its config names one.
        tokens: A JSON array of token ids, or an array of such arrays; taken as they are.
        count: The first documents alone.
        limit: The first tokens alone, over all documents.
    """
    for name, value in (("--documents", count), ("--max-text-tokens", limit)):
        if value is not None and value < 1:
            raise InvalidArgumentError(f"{name} is {value}; expected at least 1")
    if tokens is not None:
        documents = _token_documents(tokens)[:count]
    else:
        assert text is not None
        documents = _encoded(_texts(text)[:count], config, folder)
    context = getattr(config, "max_position_embeddings", None)
    size = config.vocab_size
    for index, document in enumerate(documents):
        for token in document:
            if not 0 <= token < size:
                raise InvalidArgumentError(
                    f"token {token} of document {index} does not exist; the model has {size}"
                )
    return _first_tokens([document[:context] for document in documents], limit)


def _first_tokens(documents: list[list[int]], limit: int | None) -> list[list[int]]:
    if limit is None:
        return documents
    result = []
    for document in documents:
        if limit <= 0:
            break
        result.append(document[:limit])
        limit -= len(document)
    return result


def _token_documents(path: Path) -> list[list[int]]:
    content = json.loads(path.read_text())
    if isinstance(content, list) and all(isinstance(each, int) for each in content):
        return [content]
    if isinstance(content, list) and all(
        isinstance(each, list) and all(isinstance(token, int) for token in each) for each in content
    ):
        return content
    raise InvalidArgumentError(f"{path} is no JSON array of integers, nor an array of such arrays")


def _texts(path: Path) -> list[str]:
    content = path.read_text(encoding="utf-8")
    if path.suffix != ".json":
        return [content]
    texts = json.loads(content)
    if not isinstance(texts, list) or not all(isinstance(each, str) for each in texts):
        raise InvalidArgumentError(f"{path} is no JSON array of strings")
    return texts


def _encoded(texts: list[str], config: Any, folder: Path) -> list[list[int]]:
    file = folder / "tokenizer.json"
    tokenizer = (
        PreTrainedTokenizerFast(tokenizer_file=str(file))
        if file.is_file()
        else AutoTokenizer.from_pretrained(folder, local_files_only=True)
    )
    first = getattr(config, "bos_token_id", None)
    begin = [first] if isinstance(first, int) else []
    return [
        begin + tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        for text in texts
    ]
