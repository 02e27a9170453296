"""Writes stories to calibrate on, as a JSON array: none of them is in the evaluation text.

    python3 make_calibration_text.py calibration.json

They come from ../corpus.py with a seed that neither the training nor the evaluation used.
"""

import json
import pathlib
import random
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import corpus  # noqa: E402  (lies beside the model, one folder up)

SEED = 777
COUNT = 14
SENTENCES = (150, 165, 180, 190)
FACTS = (6, 10, 16)


def main(path):
    r = random.Random(SEED)
    stories = [
        corpus.text(corpus.document(r, r.choice(SENTENCES), r.choice(FACTS))) for _ in range(COUNT)
    ]
    pathlib.Path(path).write_text(json.dumps(stories))


if __name__ == "__main__":
    main(sys.argv[1])
