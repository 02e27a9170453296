#!/usr/bin/env python3
"""Compares Specs/policy.schema.json with the reader of policies, file by file.

Valid policies (the examples, the presets, the code blocks of documents) must be accepted by both. Of the wrong ones of the tests, the
schema must refuse all but those that no schema can tell. Random changes of the examples must not be refused by the schema alone, nor by the reader
alone for a reason that the schema knows.

usage: check-policies.py [PATH OF THE nibble PROGRAM]
"""
import json
import pathlib
import random
import re
import subprocess
import sys
import tempfile

import jsonschema
import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
WRONG = ROOT / "Tests/NibblePolicyTests/WrongPolicies"
PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ROOT / ".build/release/nibble"
SHAPE = ["--layers", "64", "--query-heads", "8", "--kv-heads", "8", "--head-dim", "128"]

# Wrong by what comes before, by the model or by a calibration, by how a number is written, or by what a YAML parser does not tell.
BEYOND_SCHEMA = {
    "age-within-recent.yaml", "ages-equal.json", "ages-out-of-order.yaml", "all-and-one.json", "backwards.yaml",
    "calibration-missing-in-age.yaml", "calibration-missing.yaml", "fraction.json", "group-does-not-divide.yaml",
    "hexadecimal.yaml", "key-twice.json", "key-twice.yaml", "missing-head.yaml", "missing-layer.yaml", "not-a-number.yaml", "option-twice.yaml",
    "overlapping-layers.yaml", "rotations-of-ages.yaml", "too-many-last.json",
}
# The reader's words for the same reasons.
BEYOND_WORDS = re.compile(
    r"'beyond' is|overlaps|runs backwards|calibration|stands twice|does not exist|asks for|divides|cannot follow|whole number"
)
# What would take a parser without a limit until the end of days.
BOMBS = {"alias-bomb.yaml", "alias-bomb-as-key.yaml"}


class CoreLoader(yaml.SafeLoader):
    """The core schema of YAML 1.2, which editors use: `no` is a word."""


CoreLoader.yaml_implicit_resolvers = {}
for tag, pattern, first in [
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    ("float", r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
     list("-+0123456789.")),
]:
    CoreLoader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(pattern), first)


def integer(loader, node):
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


CoreLoader.add_constructor("tag:yaml.org,2002:int", integer)

schema = json.loads((ROOT / "Specs/policy.schema.json").read_text())
jsonschema.Draft202012Validator.check_schema(schema)
validator = jsonschema.Draft202012Validator(schema)
short_form = jsonschema.Draft202012Validator(schema["$defs"]["short_form"])
failures = []


def by_schema(text):
    """Why the schema, or the parser before it, refuses a text; None if neither does."""
    try:
        document = yaml.load(text.decode() if isinstance(text, bytes) else text, CoreLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError) as error:
        return f"no YAML: {type(error).__name__}"
    error = jsonschema.exceptions.best_match(validator.iter_errors(document))
    return error and error.message[:120]


def explain(policy):
    return subprocess.run(
        [PROGRAM, "policy", "explain", policy, *SHAPE], capture_output=True, text=True
    )


def by_reader(text):
    """The first line of the reader's complaint; None if it has none."""
    with tempfile.NamedTemporaryFile(suffix=".yaml", mode="wb") as file:
        file.write(text if isinstance(text, bytes) else text.encode())
        file.flush()
        result = explain(file.name)
    return result.stderr.split("\n")[0] if result.returncode else None


def valid_policies():
    for path in sorted((ROOT / "Specs/examples/policies").iterdir()):
        yield path.name, path.read_text()
    for name in schema["$defs"]["short_form"]["x-presets"]:
        shown = subprocess.run([PROGRAM, "policy", "show", name], capture_output=True, text=True, check=True)
        yield f"preset {name}", shown.stdout
    documents = [ROOT / "README.md", *sorted(ROOT.glob("Specs/*.md")), *sorted(ROOT.glob("Sources/*/*.docc/**/*.md"))]
    for path in documents:
        for number, block in enumerate(re.findall(r"```(?:yaml|json)\n(.*?)```", path.read_text(), re.S)):
            if "version" in block and "keys" in block:
                yield f"{path.name}, block {number + 1}", block


def check_valid():
    valid = list(valid_policies())
    for name, text in valid:
        for who, complaint in [("schema", by_schema(text)), ("reader", by_reader(text))]:
            if complaint:
                failures.append(f"{name} is refused by the {who}: {complaint}")
    return valid


def check_wrong():
    paths = [path for path in sorted(WRONG.iterdir()) if path.suffix != ".expected" and path.name not in BOMBS]
    for path in paths:
        text = path.read_bytes()
        complaint = by_schema(text)
        if (complaint is None) != (path.name in BEYOND_SCHEMA):
            failures.append(f"{path.name}: {complaint or 'the schema accepts it, and should not'}")
    return len(paths)


def check_short_forms():
    text = (ROOT / "Specs/policy.md").read_text() + (ROOT / "Specs/cli.md").read_text()
    forms = set(schema["$defs"]["short_form"]["examples"]) | set(schema["$defs"]["short_form"]["x-presets"])
    forms |= {word for word in re.findall(r"`([^`\s]+)`", text) if re.match(r"^(k=|[a-z]+[0-9]*:[0-9]|[a-z0-9]+(:[0-9])?@[a-z])", word)}
    wrong = {"rotatd:4", "rotated:5", "k=int8", "balanced@recent", "linear:4@k.sinks=4", "int8@exact_rows=int8", ""}
    for form in sorted(forms | wrong):
        refused = explain(form)
        by_words = refused.stderr if refused.returncode else None
        if by_words and BEYOND_WORDS.search(by_words):
            by_words = None
        if (by_words is None) != short_form.is_valid(form):
            failures.append(f"short form '{form}': the reader says {by_words or 'yes'}, the pattern the opposite")
    return len(forms | wrong)


def changed(policy, generator):
    """The policy with a value, a key or a part changed."""
    policy = json.loads(json.dumps(policy))
    places = []

    def walk(node):
        for key in list(node) if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], (dict, list)):
                walk(node[key])

    walk(policy)
    node, key = generator.choice(places)
    anything = ["rotated:4", "trellis:5", "last", "hadamard", True, False, None, 0, 4, 100, -1, 0.25, "", [], {}]
    codecs = ["rotated:4", "int8", "linear:3", "bcq:2", "float16", "bfloat16", "seeded", {"codec": "clustered", "bits": 3, "axis": "none"}]
    selections = ["all", 0, 7, "0-3", "first 2", "last 1", ["first 1", "last 1"], [2, 5]]
    sensible = {
        "keys": codecs, "values": codecs, "layers": selections, "kv_heads": selections, "codec": ["linear", "int8", "trellis", "bcq", "rotated"],
        "beyond": [64, 4096, 16777216], "recent": [0, 64, 65536], "sinks": [0, 1024], "page_tokens": [16, 48, 64, 1024],
        "exact_rows": ["float32", "float16", "bfloat16"], "skip_below": [0, 0.001, 0.49], "name": ["a b", 4], "bits": [1, 2, 3, 4, 8, 16],
        "axis": ["token", "channel", "none"], "group": [16, 32, 64], "zero_point": [True, False], "mean": ["removed", "kept"],
        "rotation": ["none", "hadamard"], "blocks": ["channels", "tokens"], "clip": ["none", "search"], "scales": ["plain", "balanced"],
        "outliers": [0, 1, 10], "format": ["mxfp4", "nvfp4", "mxint8"],
    }
    if isinstance(node, dict) and generator.random() < 0.4:
        key = generator.choice(list(sensible))
    elif isinstance(node, dict) and generator.random() < 0.1:
        del node[key]
        return policy
    node[key] = generator.choice(sensible.get(key, anything) if generator.random() < 0.7 else anything)
    return policy


def check_changes(valid, count=600):
    generator = random.Random(7)
    both = [0, 0]
    for _ in range(count):
        policy = yaml.load(generator.choice(valid)[1], CoreLoader)
        for _ in range(generator.randint(1, 2)):
            policy = changed(policy, generator)
        text = json.dumps(policy)
        schema_says, reader_says = by_schema(text), by_reader(text)
        both[reader_says is None] += 1
        if schema_says and not reader_says:
            failures.append(f"the schema alone refuses {text}: {schema_says}")
        if reader_says and not schema_says and not BEYOND_WORDS.search(reader_says):
            failures.append(f"the reader alone refuses {text}: {reader_says}")
    return both


valid = check_valid()
wrong = check_wrong()
forms = check_short_forms()
refused, accepted = check_changes(valid)
for failure in failures:
    print(failure, file=sys.stderr)
print(f"{len(valid)} valid policies, {wrong} wrong ones, {forms} short forms, {refused + accepted} changed policies ({accepted} still valid): "
      f"{len(failures)} disagreements")
sys.exit(1 if failures else 0)
