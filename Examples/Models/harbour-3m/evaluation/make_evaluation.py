"""Writes the held-out text of the model: stories.json and questions.jsonl, beside this file.

    python3 -m venv .venv && .venv/bin/pip install tokenizers==0.23.3
    .venv/bin/python make_evaluation.py

The stories come from ../corpus.py with seeds that the training did not use (it used 1, 7 and 99).
The tokenizer is needed only to measure lengths and distances in tokens; the files hold plain text.
No output of the model takes part in the choice of stories or questions. With the same Python
`random` module the two files come out the same, byte for byte.
"""

import json
import pathlib
import random
import sys

from tokenizers import Tokenizer

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import corpus  # noqa: E402  (lies beside the model, one folder up)

STORY_SEED = 41_001
STORY_COUNT = 40
STORY_SENTENCES = (150, 165, 180, 190)
FACTS = (6, 10, 16)

QUESTION_SEED = 41_002
QUESTION_COUNT = 200
QUESTION_SENTENCES = (60, 80, 100)
LEAST_DISTANCE = 256  # tokens between the last mention of the fact and the question
MOST_PROMPT_TOKENS = 2_000


class RecordedFact(corpus.Fact):
    """A fact that notes every sentence which states it and every question which asks for it."""

    events = []

    def state(self, r, again=False):
        sentence = super().state(r, again)
        RecordedFact.events.append((self, "state", sentence))
        return sentence

    def question(self):
        question, answer = super().question()
        RecordedFact.events.append((self, "question", question))
        return question, answer


def token_count(tokenizer, text):
    return len(tokenizer.encode(text).ids)


def stories():
    r = random.Random(STORY_SEED)
    return [
        corpus.text(corpus.document(r, r.choice(STORY_SENTENCES), r.choice(FACTS)))
        for _ in range(STORY_COUNT)
    ]


def candidates(r, tokenizer):
    """Returns the questions of one new story whose fact was last mentioned far enough back."""
    RecordedFact.events = []
    segments = corpus.document(r, r.choice(QUESTION_SENTENCES), r.choice(FACTS))
    pending = iter(RecordedFact.events + [(None, None, None)])
    fact, kind, sentence = next(pending)
    mentioned, found, story = {}, [], ""
    for index, (segment, _) in enumerate(segments):
        if sentence is not None and segment.strip() == sentence:
            if kind == "question":
                distance = token_count(tokenizer, story[mentioned[fact] :])
                prompt, answer = story + segment, segments[index + 1][0]
                short = token_count(tokenizer, prompt) <= MOST_PROMPT_TOKENS
                if distance >= LEAST_DISTANCE and short:
                    found.append((prompt, answer, distance))
                # The answer follows the question, so the fact is mentioned again there.
                mentioned[fact] = len(story) + len(segment) + len(segments[index + 1][0])
            else:
                mentioned[fact] = len(story) + len(segment)
            fact, kind, sentence = next(pending)
        story += segment
    assert sentence is None, "every statement and question must be found in the story"
    return found


def questions(tokenizer):
    """One question a story, so that no two share a prompt."""
    r = random.Random(QUESTION_SEED)
    chosen = []
    while len(chosen) < QUESTION_COUNT:
        found = candidates(r, tokenizer)
        if found:
            chosen.append(r.choice(found))
    return chosen


def main():
    tokenizer = Tokenizer.from_file(str(HERE.parent / "tokenizer.json"))
    corpus.Fact = RecordedFact

    told = stories()
    with open(HERE / "stories.json", "w", encoding="utf-8", newline="\n") as file:
        json.dump(told, file, indent=0)
        file.write("\n")
    lengths = [token_count(tokenizer, story) for story in told]
    print(f"{len(told)} stories, {min(lengths)} to {max(lengths)} tokens, {sum(lengths)} in all")

    asked = questions(tokenizer)
    with open(HERE / "questions.jsonl", "w", encoding="utf-8", newline="\n") as file:
        for prompt, answer, _ in asked:
            file.write(json.dumps({"prompt": prompt, "answer": answer}) + "\n")
    prompts = [token_count(tokenizer, prompt) for prompt, _, _ in asked]
    answers = [token_count(tokenizer, answer) for _, answer, _ in asked]
    distances = sorted(distance for _, _, distance in asked)
    print(
        f"{len(asked)} questions, prompts of {min(prompts)} to {max(prompts)} tokens "
        f"({sum(prompts)} in all), answers of {min(answers)} to {max(answers)} "
        f"({sum(answers)} in all), facts {distances[0]} to {distances[-1]} tokens back "
        f"(median {distances[len(distances) // 2]})"
    )


if __name__ == "__main__":
    main()
