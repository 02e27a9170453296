"""Makes English text to measure codecs on: passages of the novels of Jane Austen, which are in the public domain.

    pip install tokenizers
    python make_text.py MODEL OUTPUT.json [PACKAGE]
    nibble compare exact,balanced --model MODEL --text OUTPUT.json

MODEL is a checkpoint folder; its tokenizer counts the tokens. The six novels come from the Debian package
r-cran-janeaustenr. PACKAGE is its .deb file; otherwise apt-get downloads it (1.6 MB). Needs dpkg-deb.

Passages begin and end with paragraphs and lie evenly spread over each novel. Novels take turns, so the first documents
already have all of them.
"""

import argparse
import json
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

from tokenizers import Tokenizer

PACKAGE = "r-cran-janeaustenr"
NOVELS = "usr/lib/R/site-library/janeaustenr/data/Rdata.rdb"
PASSAGES = 8
LEAST_TOKENS = 2900
MOST_TOKENS = 4000
# A shorter paragraph may be a heading.
LEAST_CHARACTERS = 40


def unpacked(package, folder):
    """Returns the path of the novels, from the package file or from Debian."""
    if package is None:
        subprocess.run(["apt-get", "download", PACKAGE], cwd=folder, check=True)
        package = next(Path(folder).glob("*.deb"))
    subprocess.run(["dpkg-deb", "--extract", package, folder], check=True)
    return Path(folder) / NOVELS


def objects(data):
    """The R objects of a lazy-load database: each a length in 4 bytes, then a zlib stream."""
    while data:
        stream = zlib.decompressobj()
        yield stream.decompress(data[4:])
        data = stream.unused_data


def lines(data):
    """The strings of a serialized R character vector.

    The format is that of "Serialization Formats" in R Internals, version 3: "X\\n", three numbers, the name of the native
    encoding, the vector's type and length; then each string's type and flags, length and bytes.
    """

    def number(offset):
        return struct.unpack_from(">i", data, offset)[0]

    assert data[:2] == b"X\n" and number(2) == 3
    offset = 18 + number(14)
    count = number(offset + 4)
    offset += 8
    for _ in range(count):
        length = number(offset + 4)
        yield data[offset + 8 : offset + 8 + length].decode("utf-8")
        offset += 8 + length
    assert offset == len(data)


def paragraphs(novel):
    """Paragraphs on one line each, without headings and the underscores of italics."""
    text = "\n".join(line.rstrip() for line in novel)
    joined = (" ".join(part.split()).replace("_", "") for part in text.split("\n\n"))
    return [part for part in joined if len(part) >= LEAST_CHARACTERS]


def passage(parts, tokenizer):
    """The first paragraphs, enough of them to have LEAST_TOKENS."""
    for count in range(1, len(parts) + 1):
        text = "\n\n".join(parts[:count])
        tokens = len(tokenizer.encode(text).ids)
        if tokens >= LEAST_TOKENS:
            assert tokens <= MOST_TOKENS
            return text
    raise ValueError("the passage ends before it has enough tokens")


def passages(novel, tokenizer):
    """Evenly spread passages. The first paragraph is left out: it has the title and the author."""
    parts = paragraphs(novel)[1:]
    return [
        passage(parts[len(parts) * index // PASSAGES :], tokenizer) for index in range(PASSAGES)
    ]


def main():
    parser = argparse.ArgumentParser(description="Makes English text to measure codecs on.")
    parser.add_argument("model", type=Path, help="a checkpoint folder with tokenizer.json")
    parser.add_argument("output", type=Path, help="the JSON file to write")
    parser.add_argument("package", type=Path, nargs="?", help=f"the .deb file of {PACKAGE}; downloaded if not given")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_file(str(arguments.model / "tokenizer.json"))
    with tempfile.TemporaryDirectory() as scratch:
        data = unpacked(arguments.package, scratch).read_bytes()
    novels = [passages(lines(novel), tokenizer) for novel in objects(data)]
    documents = [text for turn in zip(*novels) for text in turn]
    arguments.output.write_text(json.dumps(documents, indent=0) + "\n", encoding="utf-8")
    counts = [len(tokenizer.encode(text).ids) for text in documents]
    print(f"{len(counts)} documents of {min(counts)} to {max(counts)} tokens, {sum(counts)} in all")


if __name__ == "__main__":
    main()
