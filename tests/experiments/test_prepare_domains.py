"""Sentences of four domains, from an archive like that of vaderSentiment."""

import numpy as np

from akd_jax.data.readers import domains
from experiments.preparation import sentiment_domains
from tests.support import vader


def test_sentences_are_labelled_cleaned_and_split_once(tmp_path):
    many = [(2.0 - 4 * (n % 2), f"sentence number {n} of a &quot;domain&quot;") for n in range(400)]
    archive = vader.archive(
        movieReviewSnippets=[
            *many,
            (0.4, "nearly neutral, so left out"),
            (-0.5, "just negative   enough"),
            (3.0, "short"),
        ],
        tweets=[(1.0, "JUST negative enough"), *((1.5, f"tweet number {n}") for n in range(99))],
        amazonReviewSnippets=[(1.0, f"amazon number {n}") for n in range(99)],
        nytEditorialSnippets=[(-1.0, f"editorial number {n}") for n in range(99)],
    )
    sentiment_domains.write(archive, tmp_path)
    source = domains.load_sentiment(tmp_path)
    splits = {"train": source.train, "dev": source.validation, "test": source.test}
    rows = {
        text: (split, group, label)
        for split, examples in splits.items()
        for (text,), group, label in zip(
            examples.inputs, examples.groups, examples.labels, strict=True
        )
    }
    assert len(rows) == sum(map(len, splits.values())) == 400 + 1 + 3 * 99
    assert rows["just negative enough"][1:] == ("movie", 0)
    assert rows["sentence number 4 of a 'domain'"][1:] == ("movie", 1)
    assert not {"nearly neutral, so left out", "short"} & rows.keys()
    shares = [len(splits[name]) / len(rows) for name in ("train", "dev", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.05)
