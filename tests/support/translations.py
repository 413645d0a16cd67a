"""Small corpora of hypotheses and references."""

import numpy as np

REFERENCES = [
    "Anchors the selected object to the current page.",
    "The drag-and-drop method isn't possible with these styles (see below).",
    "Error #13 occurs if Index equals Null.",
    "Moves the cursor to the beginning of the document.",
    "It costs $1,234.50 - naïve, isn't it?",
]
HYPOTHESES = [
    "Anchors the selected object on the current page.",
    "The drag and drop method is not possible with these Styles.",
    "",
    "Moves the cursor to the start of the document.",
    "It costs $1,234.50, naive, isn't it?",
]


def corpus(rows: int, seed: int, changed: float = 0.2) -> tuple[list[str], list[str]]:
    """Returns hypotheses and references; a hypothesis has a changed share of the words.

    One in ten hypotheses is empty, and some rows have fewer than 4 words.
    """
    rng = np.random.default_rng(seed)
    words = " ".join(REFERENCES).split()
    references = [" ".join(rng.choice(words, rng.integers(2, 15))) for _ in range(rows)]
    hypotheses = []
    for row, reference in enumerate(references):
        kept = [
            word if rng.uniform() > changed else rng.choice(words) for word in reference.split()
        ]
        hypotheses.append("" if row % 10 == 9 else " ".join(kept[rng.integers(2) :]))
    return hypotheses, references
