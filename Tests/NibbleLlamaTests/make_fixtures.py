"""Makes Fixtures/: random tiny checkpoints with the logits that transformers computes for them, and
tokenizers with the ids that the tokenizers library computes.

    pip install torch transformers tokenizers safetensors numpy
    python make_fixtures.py

Made with torch 2.15.0, transformers 5.23.0, tokenizers 0.23.3 on a CPU. Weights are rounded to the
file's precision first; the logits are then computed in float32.
"""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import AddedToken, Regex, decoders
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config

HERE = Path(__file__).parent
FIXTURES = HERE / "Fixtures"
HARBOUR = HERE.parent.parent / "Examples" / "Models" / "harbour-3m" / "tokenizer.json"

SHAPE = dict(
    vocab_size=96,
    hidden_size=32,
    intermediate_size=56,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    rms_norm_eps=1e-5,
    bos_token_id=1,
    eos_token_id=2,
)
TOKENS = 40


def randomize(model, seed, dtype):
    """Sets all weights. Rounds the weights alone: the rotary frequencies stay float32."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("norm.weight"):
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * noise)
            elif "embed_tokens" in name:
                parameter.copy_(noise)
            else:
                parameter.copy_(noise * 2 / parameter.shape[-1] ** 0.5)
            parameter.copy_(parameter.to(dtype).float())


def checkpoint(name, config, seed, dtype=torch.float32, shard=None, mixed=False, edit=None):
    """Saves a model and its logits. `edit` changes config.json as other writers would have it."""
    folder = FIXTURES / name
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    randomize(model, seed, dtype)
    generator = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randint(0, config.vocab_size, (1, TOKENS), generator=generator)
    with torch.no_grad():
        logits = model(tokens).logits[0]
    model.to(dtype).save_pretrained(folder, max_shard_size=shard or "1GB")
    if mixed:
        tensors = load_file(folder / "model.safetensors")
        for index, key in enumerate(sorted(tensors)):
            wider = torch.float32 if index % 3 == 0 else dtype
            tensors[key] = tensors[key].to(wider)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "generation_config.json").unlink(missing_ok=True)
    if edit:
        values = json.loads((folder / "config.json").read_text())
        edit(values)
        (folder / "config.json").write_text(json.dumps(values, indent=2) + "\n")
    expected = {"logits": logits.float().contiguous(), "tokens": tokens[0].float()}
    save_file(expected, folder / "expected.safetensors")
    for path in folder.iterdir():
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{name}: {size} bytes, logits up to {logits.abs().max():.2f}")


def old_rope(values):
    """config.json as transformers 4 wrote it, with the head dimension left to be derived."""
    parameters = values.pop("rope_parameters")
    values["rope_theta"] = parameters["rope_theta"]
    values["rope_scaling"] = {"type": "linear", "factor": parameters["factor"]}
    values.pop("head_dim", None)


def checkpoints():
    llama3 = dict(
        rope_type="llama3",
        rope_theta=500.0,
        factor=4.0,
        low_freq_factor=1.0,
        high_freq_factor=4.0,
        original_max_position_embeddings=64,
    )
    checkpoint(
        "llama-tied-f32",
        LlamaConfig(**SHAPE, head_dim=16, tie_word_embeddings=True, rope_parameters=llama3),
        seed=1,
    )
    checkpoint(
        "llama-sharded-bf16",
        LlamaConfig(
            **SHAPE,
            attention_bias=True,
            mlp_bias=True,
            tie_word_embeddings=False,
            rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=2.0),
        ),
        seed=2,
        dtype=torch.bfloat16,
        shard="30KB",
        edit=old_rope,
    )
    checkpoint(
        "qwen2-f16",
        Qwen2Config(**SHAPE, tie_word_embeddings=True, use_sliding_window=True, sliding_window=12,
                    max_window_layers=1),
        seed=3,
        dtype=torch.float16,
        edit=lambda values: values.pop("layer_types"),
    )
    checkpoint(
        "qwen3-bf16",
        Qwen3Config(**SHAPE, head_dim=24, tie_word_embeddings=False,
                    rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
        seed=4,
        dtype=torch.bfloat16,
    )
    checkpoint(
        "mistral-mixed",
        MistralConfig(**SHAPE, head_dim=16, sliding_window=9, tie_word_embeddings=False),
        seed=5,
        dtype=torch.float16,
        mixed=True,
    )


LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

CORPUS = [
    "The harbour lies north of the town, and the ferry leaves at seven every morning.",
    "Anna's boat isn't new; it's the oldest one they've got, and she'd never sell it.",
    "In 1987 there were 12,345 barrels of herring, worth £678.90 or €1,000,000.",
    "Der Leuchtturm blinkt über dem Wasser, während die Möwen kreisen. Größe: 27 Meter.",
    "Le café près du port est fermé jusqu'à l'été; où est le phare?",
    "港口在城市的北边。渡轮每天早上七点出发。",
    "灯台は港の入口にあります。カモメが飛んでいます。",
    "Маяк стоит у входа в гавань, и чайки кружат над водой.",
    "def keys(self, n):\n    return [self.rows[i] for i in range(n)]\n\n\nprint(keys(4))\n",
    "| name | bytes |\n|------|-------|\n| page | 4096  |\n",
    "👩‍🚀 flies; 🏳️‍🌈 waves; 🚢🚢🚢 sail; 👍🏽!",
] * 4

TEXTS = [
    "",
    " ",
    "The lighthouse keeper counted the boats.",
    " The lighthouse keeper",
    "don't DON'T we'Ll they'RE I'd",
    "1 12 123 1234 12345 ½ ² Ⅷ ٣٤٥",
    "a  b   c    d\t\te \t f",
    "trailing spaces   ",
    "   leading spaces",
    "line\nline\n\nline\r\n\r\n  indented\n   \n",
    "\n",
    " \n \n ",
    "tabs\tand\u00a0no-break\u2003em space\u3000ideographic",
    "next\u0085line \u000b vertical \u2028 separator",
    "naïve café, cafe\u0301, Ångström, A\u030angstro\u0308m, ﬁ",
    "港口在城市的北边。灯台は港の入口にあります。 항구",
    "Привет, мир! Γειά σου Κόσμε. שלום עולם مرحبا بالعالم",
    "हिन्दी में पाठ ไทย ქართული",
    "👩‍🚀 🏳️‍🌈 👍🏽 🚢🚢 👨‍👩‍👧‍👦!",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𐍈 \U0001f9ff",
    "zero\u200bwidth \ufeffbom \u00adsoft",
    "control \u0000 \u0007 \u001b[0m \u007f",
    "x=3.14159e-10; y = -0.5 ** 2 # comment!?",
    "https://example.org/a?b=c&d=%20#e",
    "<|end|>The story<|end|> ends<|end|><|end|>",
    "<|im_start|>user\nHello<|im_end|>\n<|endoftext|>",
    "<|begin_of_text|> nested <|im_<|im_end|>start|> <think> ok </think>  <mask> end",
    "<|end| >not a token<|en",
    "ſ's 'ſ K'ſtill İ'D",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "unbrokenwordofconsiderablelengthwithoutanyspacesatall" * 3,
    "((([[[{{{<<<>>>}}}]]]))) --- *** ___ ... ,,, ;;; !!! ???",
]


def trained(pre_tokenizer, normalizer=None, special=(), ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        show_progress=False,
        special_tokens=list(special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def split(pattern):
    return pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])


def write_tokenizer(name, tokenizer, edit=None):
    """Saves the tokenizer and the ids of TEXTS; `edit` changes the file before they are computed."""
    values = json.loads(tokenizer.to_str())
    if edit:
        edit(values)
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"))
    (FIXTURES / "tokenizers" / f"{name}.json").write_text(text, encoding="utf-8")
    write_ids(name, Tokenizer.from_str(text))


def write_ids(name, tokenizer):
    rows = [
        {
            "text": text,
            "ids": tokenizer.encode(text).ids,
            "plain": tokenizer.encode(text, add_special_tokens=False).ids,
            "decoded": tokenizer.decode(tokenizer.encode(text).ids),
        }
        for text in TEXTS
    ]
    path = FIXTURES / "tokenizers" / f"{name}.expected.json"
    path.write_text(json.dumps(rows, separators=(",", ":")))


def merges_as_strings(values):
    values["model"]["merges"] = [" ".join(pair) for pair in values["model"]["merges"]]


def word_without_merges(values):
    vocab = values["model"]["vocab"]
    vocab["Ġlighthouse"] = max(vocab.values()) + 1


def tokenizers():
    (FIXTURES / "tokenizers").mkdir()
    llama = trained(split(LLAMA3), special=["<|begin_of_text|>", "<|end|>"], ignore_merges=True)
    begin = llama.token_to_id("<|begin_of_text|>")
    llama.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(
            single="<|begin_of_text|> $A",
            pair="<|begin_of_text|> $A <|begin_of_text|> $B",
            special_tokens=[("<|begin_of_text|>", begin)],
        ),
    ])
    write_tokenizer("llama3", llama, word_without_merges)

    qwen = trained(split(QWEN2), normalizers.NFC())
    qwen.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])
    qwen.add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>")])
    qwen.add_tokens([AddedToken("<mask>", lstrip=True, rstrip=True), AddedToken("ok", single_word=True)])
    write_tokenizer("qwen2", qwen, merges_as_strings)

    write_tokenizer("gpt2", trained(pre_tokenizers.ByteLevel(add_prefix_space=True)))

    digits = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])
    write_tokenizer("digits", trained(digits))

    write_ids("harbour-3m", Tokenizer.from_file(str(HARBOUR)))


if __name__ == "__main__":
    shutil.rmtree(FIXTURES, ignore_errors=True)
    FIXTURES.mkdir()
    checkpoints()
    tokenizers()
