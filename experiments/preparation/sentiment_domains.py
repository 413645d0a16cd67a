"""Sentences of four domains with their sentiment, from the ratings published with VADER."""

import hashlib
import html
from collections.abc import Iterator

from akd_jax.host.files import Path
from experiments.preparation import vader

# The names of the domains, and those of the files with their ratings. A sentence that occurs in
# several domains belongs to the first.
DOMAINS = {
    "movie": "movieReviewSnippets",
    "tweet": "tweets",
    "amazon": "amazonReviewSnippets",
    "nyt": "nytEditorialSnippets",
}
_MARGIN = 0.5  # The smallest distance of a rating from 0, the middle of -4 to 4.
_SHORTEST = 8  # Characters of a sentence.
_TEST, _DEV = 0.2, 0.1  # Shares of the sentences.


def prepare(data_dir: Path) -> None:
    """Downloads the archive of ratings and writes DOMAIN/train.tsv, dev.tsv and test.tsv.

    Raises:
      InputError: the archive could not be downloaded.
    """
    write(vader.ARCHIVE.download(), data_dir)


def write(archive: bytes, data_dir: Path) -> None:
    """Writes the files of all domains from vaderSentiment's archive.

    The sign of a sentence's mean rating gives its label: positive (1) or negative (0). Sentences
    with a rating between -0.5 and 0.5 are left out. A hash of a sentence decides on its split.
    Sentences that differ only in upper and lower case count as one, and each occurs once.
    """
    domains: dict[str, dict[str, list[tuple[str, int]]]] = {
        domain: {"train": [], "dev": [], "test": []} for domain in DOMAINS
    }
    for domain, sentence, label in labelled(archive):
        share = int(_digest(sentence.lower())[:8], 16) / 2**32
        split = "test" if share < _TEST else "dev" if share < _TEST + _DEV else "train"
        domains[domain][split].append((sentence, label))
    for domain, rows in domains.items():
        folder = data_dir / domain
        folder.mkdir(parents=True, exist_ok=True)
        for split, part in rows.items():
            part.sort(key=lambda row: _digest(row[0]))
            lines = [f"{sentence}\t{label}\n" for sentence, label in part]
            text = "".join(["sentence\tlabel\n", *lines])
            (folder / f"{split}.tsv").write_text(text, encoding="utf-8", newline="\n")


def labelled(archive: bytes) -> Iterator[tuple[str, str, int]]:
    """Yields the domain, the text and the label of each sentence, 1 for a positive one."""
    seen: set[str] = set()
    for domain, name in DOMAINS.items():
        for rating, sentence in _sentences(vader.read_ratings(archive, name)):
            key = sentence.lower()
            if abs(rating) >= _MARGIN and len(sentence) >= _SHORTEST and key not in seen:
                seen.add(key)
                yield domain, sentence, int(rating > 0)


def _sentences(content: bytes) -> Iterator[tuple[float, str]]:
    """Yields the rating and the text of each sentence in a file."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")
    for line in text.splitlines():
        cells = line.split("\t")
        if len(cells) >= 3:
            sentence = html.unescape(" ".join(cells[2:])).replace('"', "'")
            yield float(cells[1]), " ".join(sentence.split())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
