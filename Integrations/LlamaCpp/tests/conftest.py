"""Where things are."""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
REPOSITORY = PACKAGE.parents[1]
EMBEDDED_MODEL = REPOSITORY / "Examples" / "Models" / "harbour-3m"

# The converter is a program beside the package, not a part of it.
sys.path.insert(0, str(PACKAGE))
