"""Gives the Llama example wrong arguments and wrong files, and expects an error that says why.

python3 check_input.py PROGRAM MODEL FOLDER

PROGRAM is built with sanitizers, so that a read out of bounds ends it with a status of their own.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

FILES = ("config.json", "tokenizer.json", "model.safetensors")
MUTATIONS = 40
"""Of each file."""
SANITIZERS = dict.fromkeys(("ASAN_OPTIONS", "UBSAN_OPTIONS"), "exitcode=99")


def main() -> None:
    program, model, folder = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]) / "wrong"
    checker = Checker(program, model, folder)
    check_arguments(checker)
    check_configurations(checker)
    check_tensors(checker)
    check_vocabularies(checker)
    check_mutations(checker)
    print(f"{checker.count} wrong inputs, each refused or read without a fault")


class Checker:
    """A copy of a model to spoil, and the program that reads it."""

    def __init__(self, program: str, model: Path, folder: Path) -> None:
        self.program, self.model, self.folder, self.count = program, model, folder, 0
        folder.mkdir()
        for name in FILES:
            self.restore(name)

    def restore(self, name: str) -> None:
        shutil.copyfile(self.model / name, self.folder / name)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        self.count += 1
        given = arguments or ("--model", str(self.folder), "--ids", "0,5", "--tokens", "1")
        return subprocess.run(
            [self.program, *given],
            capture_output=True,
            text=True,
            errors="replace",
            env={**os.environ, **SANITIZERS},
        )

    def refuses(self, reason: str, *arguments: str, status: int = 1) -> None:
        """Expects one error with this reason in it."""
        result = self.run(*arguments)
        if result.returncode != status or reason not in result.stderr:
            raise SystemExit(
                f"error: expected status {status} and '{reason}', got status "
                f"{result.returncode} and:\n{result.stderr[-2000:]}"
            )


def check_arguments(checker: Checker) -> None:
    model = ("--model", str(checker.folder))
    for arguments, reason in [
        ([], "missing --ids"),
        (["--ids"], "no value for --ids"),
        (["--size", "3"], "unknown option --size"),
    ]:
        checker.refuses(reason, *model, *arguments, status=64)
    for arguments, reason in [
        (["--ids", "1,2048"], "2048 is not in the vocabulary of 2048"),
        (["--ids", "1,,2"], "--ids is ; expected 0 to 2147483647"),
        (["--ids", "-1"], "--ids is -1; expected"),
        (["--ids", "2147483648"], "--ids is 2147483648; expected 0 to 2147483647"),
        (["--ids", "0," + "0" * 16], "--ids has a number of 16 characters"),
        (["--ids", "1", "--tokens", "0"], "--tokens is 0; expected 1 to"),
        (
            ["--ids", "1", "--tokens", "4096"],
            "1 ids and 4096 tokens are more than the model's context of 4096",
        ),
        (["--ids", "1", "--chunk", "1025"], "--chunk is 1025; expected 1 to 1024"),
        (["--ids", "1", "--policy", "rotatde:4"], "did you mean 'rotated'?"),
        (["--ids", "1", "--calibration", "none"], "cannot read none"),
        (["--ids", "1", "--logits", "no/such/folder/file"], "cannot write no/such/folder/file"),
    ]:
        checker.refuses(reason, *model, *arguments)
    checker.refuses("cannot read no/such/config.json", "--model", "no/such", "--ids", "1")


def check_configurations(checker: Checker) -> None:
    path = checker.folder / "config.json"
    values = json.loads(path.read_text())
    changes: list[tuple[dict[str, Any], str]] = [
        ({"model_type": "mamba"}, "not of the type llama"),
        ({"hidden_act": "gelu"}, "hidden_act is not silu"),
        ({"attention_bias": True}, "biases are not computed here"),
        ({"rope_scaling": {"type": "linear", "factor": 2}}, "scaled rotary embeddings"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1 to 512"),
        ({"num_hidden_layers": 5}, "no tensor model.layers.4.input_layernorm.weight"),
        ({"hidden_size": 255}, "another shape"),
        ({"vocab_size": 1e30}, "vocab_size must be a whole number"),
        ({"vocab_size": 2048.5}, "vocab_size must be a whole number"),
        ({"head_dim": "64"}, "head_dim must be a whole number"),
        ({"rms_norm_eps": -1}, "rms_norm_eps must be a number above 0"),
        ({"tie_word_embeddings": False}, "no tensor lm_head.weight"),
        ({"tie_word_embeddings": 1}, "tie_word_embeddings must be true or false"),
    ]
    for change, reason in changes:
        path.write_text(json.dumps({**values, **change}))
        checker.refuses(reason)
    for text, reason in [
        ("", "byte 0: expected a value"),
        ("{", "byte 1: expected the name of a member"),
        ('{"a": 0x1}', "byte 7: expected a comma or }"),
        ('{"a": 1.}', "expected digits after the point"),
        ('{"a": "\\ud800"}', "expected a pair of surrogates"),
        ('{"a": "\\q"}', "expected an escape sequence"),
        ('{"a": "', "expected a closing quote"),
        ("[" * 100, "expected at most 64 levels"),
        ("{} {}", "expected nothing behind the value"),
    ]:
        path.write_text(text)
        checker.refuses(reason)
    checker.restore("config.json")


def check_tensors(checker: Checker) -> None:
    path = checker.folder / "model.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = "model.norm.weight"

    end = len(data) - 8 - length
    changes: list[tuple[dict[str, Any], str]] = [
        ({"dtype": "I8"}, "has the type I8; expected F32, F16 or BF16"),
        ({"dtype": 3}, "has the type (none)"),
        ({"shape": [255]}, "another shape"),
        ({"shape": [256, 1]}, "another shape"),
        ({"shape": {}}, "another shape"),
        ({"data_offsets": [end - 511, end + 1]}, "does not lie in"),
        ({"data_offsets": [512, 0]}, "does not lie in"),
        ({"data_offsets": [0, 1024]}, "does not lie in"),
        ({"data_offsets": [-512, 0]}, "does not lie in"),
        ({"data_offsets": [0]}, "does not lie in"),
    ]
    for change, reason in changes:
        text = json.dumps({**header, name: {**header[name], **change}}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
        checker.refuses(reason)
    for wrong, reason in [
        (data[:7], "it has fewer than 8 bytes"),
        (bytes([255] * 8) + data[8:], "is no safetensors file"),
        (data[:-1], "does not lie in"),
    ]:
        path.write_bytes(wrong)
        checker.refuses(reason)
    checker.restore("model.safetensors")


def check_vocabularies(checker: Checker) -> None:
    path = checker.folder / "tokenizer.json"
    for vocabulary, reason in [
        ({"model": {}}, "has no model.vocab"),
        ({"model": {"vocab": []}}, "has no model.vocab"),
        ({"model": {"vocab": {"a": -1}}}, "the id of a is no number"),
        ({"model": {"vocab": {"a": "1"}}}, "the id of a is no number"),
    ]:
        path.write_text(json.dumps(vocabulary))
        checker.refuses(reason)
    # Ids that the model does not have are nobody's text, and ids without text are none.
    others = {"\u0120" * 9: 2048, "b": 4294967295}
    path.write_text(json.dumps({"model": {"vocab": others}, "added_tokens": [{"id": 99999}, 3]}))
    result = checker.run()
    if result.returncode != 0 or result.stdout != "":
        raise SystemExit(f"error: a vocabulary of other ids: {result.stdout}{result.stderr}")
    checker.restore("tokenizer.json")


def check_mutations(checker: Checker) -> None:
    """Files with some bytes of their JSON changed are read, or refused with an error."""
    numbers = random.Random(11)
    for name in FILES:
        path = checker.folder / name
        data = path.read_bytes()
        end = 8 + int.from_bytes(data[:8], "little") if name.endswith("tensors") else len(data)
        for _ in range(MUTATIONS):
            changed = bytearray(data)
            for _ in range(numbers.randint(1, 3)):
                changed[numbers.randrange(end)] = numbers.choice(b'{}[]",:\\0189.-eu\x00\x80\xff')
            path.write_bytes(changed)
            result = checker.run()
            is_error = result.returncode == 1 and result.stderr != ""
            if result.returncode != 0 and not is_error:
                raise SystemExit(f"error: a changed {name} ends the program:\n{result.stderr}")
        checker.restore(name)


if __name__ == "__main__":
    main()
