"""Short sentences of reviews and newspapers, spoken without an intent.

They come from the source archive of the PyPI package vaderSentiment (MIT licence), as the movie
reviews do: its snippets of movie reviews, of product reviews and of editorials.
"""

import collections
import html
import random
import re
from collections.abc import Collection

from experiments.preparation import vader

_FILES = ("movieReviewSnippets", "amazonReviewSnippets", "nytEditorialSnippets")
_BREAK = re.compile(r"[,.!?;:()]+|\s-+\s|--")  # What ends a sentence or a part of it.
_PLAIN = re.compile(r"[a-z]+(?:'[a-z]+)?(?: [a-z]+(?:'[a-z]+)?)*")
_SHORTEST, _LONGEST = 4, 9  # In words.
_RARE = 4  # A sentence with a word that occurs less often is left out.


def collect(archive: bytes, excluded: Collection[str]) -> list[str]:
    """Returns different sentences of 4 to 9 common words in lower case, in a random order.

    Long sentences are divided at their punctuation.

    Args:
      archive: the source archive of vaderSentiment.
      excluded: sentences that must not occur.
    """
    unwanted = {sentence.lower() for sentence in excluded}
    found = set()
    for name in _FILES:
        for line in vader.read_ratings(archive, name).decode("latin-1").splitlines():
            text = html.unescape(line.split("\t")[-1]).replace('"', "").lower()
            for part in _BREAK.split(text):
                sentence = " ".join(part.split())
                if (
                    _PLAIN.fullmatch(sentence)
                    and _SHORTEST <= len(sentence.split()) <= _LONGEST
                    and sentence not in unwanted
                ):
                    found.add(sentence)
    counts = collections.Counter(word for sentence in found for word in sentence.split())
    common = sorted(s for s in found if all(counts[word] >= _RARE for word in s.split()))
    random.Random(0).shuffle(common)
    return common
