"""Continues a prompt with a cache that stays compressed, and says what the cache holds.

python3 transformers_generate.py [MODEL] [--policy balanced] [--prompt TEXT] [--tokens 200]

MODEL is a Hugging Face directory; without it, the small model of the repository.
"""

from __future__ import annotations

import argparse
import inspect
from pathlib import Path

try:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast
except ImportError as error:
    raise SystemExit(f"{error}; pip install 'nibblekv[transformers]' installs it") from error

import nibblekv
from nibblekv.transformers import NibbleCache

EMBEDDED_MODEL = Path(__file__).resolve().parents[3] / "Examples" / "Models" / "harbour-3m"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path, nargs="?", default=EMBEDDED_MODEL)
    parser.add_argument("--policy", default="balanced")
    parser.add_argument("--prompt", default="The story of Ada and the harbour.")
    parser.add_argument("--tokens", type=int, default=200, help="how many to generate")
    options = parser.parse_args()

    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    if (options.model / "tokenizer_config.json").is_file():
        tokenizer = AutoTokenizer.from_pretrained(options.model)
    else:
        file = options.model / "tokenizer.json"
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(file))

    # The argument's name changes within version 5 of transformers.
    names = inspect.signature(model.forward).parameters
    argument = "cache" if "cache" in names else "past_key_values"
    with NibbleCache(model.config, policy=options.policy) as cache:
        ids = tokenizer(options.prompt, return_tensors="pt").input_ids
        output = model.generate(
            ids, max_new_tokens=options.tokens, do_sample=False, **{argument: cache}
        )
        print(tokenizer.decode(output[0]))
        held = cache.sequences[0].statistics
        print(
            f"nibblekv {nibblekv.__version__}: {held.tokens} tokens, {held.compressed_tokens} of "
            f"them at {held.bits_per_value:.2f} bits per value; {held.total_bytes} bytes instead "
            f"of {held.exact_bytes}"
        )


if __name__ == "__main__":
    main()
