"""Saves what llama.cpp holds of a prompt, compresses and restores it, and goes on from it in a
fresh context: what an application does that keeps prompts on disk.

python3 save_and_go_on.py MODEL.gguf [--policies float16,balanced] [--prompt TEXT] [--tokens 60]
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
from pathlib import Path

from llama_cpp import Llama, llama_state_seq_load_file, llama_state_seq_save_file, llama_token

import nibblekv_llamacpp

PROMPT = "The story of Ada and the harbour.\n" + "Ada keeps a key in the boathouse. " * 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path, help="a GGUF file")
    parser.add_argument("--policies", default="float16,balanced,small", help="with commas between")
    parser.add_argument("--prompt", default=PROMPT)
    parser.add_argument("--tokens", type=int, default=60, help="how many to generate")
    options = parser.parse_args()

    llama = Llama(str(options.model), n_ctx=2048, verbose=False)
    prompt = llama.tokenize(options.prompt.encode())
    with tempfile.TemporaryDirectory() as folder:
        state, packed = Path(folder, "prompt.state"), Path(folder, "prompt.nibble")
        # The last token is left: its logits are the next token's, and no file has logits.
        llama.eval(prompt[:-1])
        save(llama, prompt[:-1], state)
        expected = go_on(llama, prompt[-1:], options.tokens)
        print(f"{len(prompt)} tokens: {state.stat().st_size:,} bytes")
        for policy in options.policies.split(","):
            nibblekv_llamacpp.compress(state, packed, policy=policy, model=options.model)
            nibblekv_llamacpp.restore(packed, state.with_suffix(".restored"))
            fresh = Llama(str(options.model), n_ctx=2048, verbose=False)
            load(fresh, prompt[:-1], state.with_suffix(".restored"))
            output = go_on(fresh, prompt[-1:], options.tokens)
            same = sum(map(int.__eq__, output, expected))
            print(
                f"{policy}: {packed.stat().st_size:,} bytes, "
                f"{same} of {len(expected)} tokens as without it"
            )
    print(llama.detokenize(expected).decode(errors="replace"))


def save(llama: Llama, ids: list[int], path: Path) -> None:
    tokens = (llama_token * len(ids))(*ids)
    if not llama_state_seq_save_file(llama.ctx, str(path).encode(), 0, tokens, len(ids)):
        raise SystemExit(f"llama.cpp cannot write {path}")


def load(llama: Llama, ids: list[int], path: Path) -> None:
    """Loads a state into an empty context, and tells the object over it what is there now."""
    tokens, count = (llama_token * llama.n_ctx())(), ctypes.c_size_t()
    read = llama_state_seq_load_file(
        llama.ctx, str(path).encode(), 0, tokens, len(tokens), ctypes.byref(count)
    )
    if not read or tokens[: count.value] != ids:
        raise SystemExit(f"llama.cpp cannot load {path}, or it is of another prompt")
    llama.input_ids[: len(ids)] = ids
    llama.n_tokens = len(ids)


def go_on(llama: Llama, ids: list[int], count: int) -> list[int]:
    """The most probable tokens that follow."""
    result: list[int] = []
    while len(result) < count:
        llama.eval(ids)
        ids = [llama.sample(temp=0)]
        result += ids
    return result


if __name__ == "__main__":
    main()
