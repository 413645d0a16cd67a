import collections

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given

from akd_jax.data import Batches, Examples
from akd_jax.types import Outputs, Tokens, TopK


def examples(count):
    return Examples(np.arange(count, dtype=np.float32)[:, None], np.arange(count, dtype=np.int32))


@pytest.mark.parametrize(("count", "batch_size"), [(10, 4), (8, 4), (3, 8), (1, 1)])
def test_epoch_counts_every_example_once(count, batch_size):
    batches = Batches(examples(count), batch_size, seed=0)
    epoch = list(batches.epoch(3))
    assert len(epoch) == len(batches) == -(-count // batch_size)
    counted = np.concatenate([batch.labels[batch.weights == 1] for batch in epoch])
    assert sorted(counted) == list(range(count))
    for batch in epoch:
        assert batch.inputs.shape == (batch_size, 1)
        assert set(batch.weights) <= {0, 1}
        np.testing.assert_array_equal(batch.inputs[:, 0], batch.labels)


@pytest.mark.parametrize("batches_per_chunk", [1, 3, 100])
@pytest.mark.parametrize("first", [0, 2])
def test_groups_contain_the_batches_of_the_epoch(batches_per_chunk, first):
    row_bytes, batch_size = 4, 2
    stored = [
        Outputs(np.arange(15.0) + view, {"pooled": np.arange(30.0).reshape(15, 2) - view})
        for view in range(2)
    ]
    batches = Batches(
        examples(15),
        batch_size,
        seed=0,
        views=2,
        stored={"teacher": stored},
        chunk_bytes=batches_per_chunk * row_bytes * batch_size,
    )
    groups = list(batches.groups(3, epoch=5, first=first))
    assert [len(group.weights) for group in groups] == [3] * ((8 - first) // 3) + [2] * (first == 0)
    singles = [jax.tree.map(lambda x, k=k: x[k], g) for g in groups for k in range(len(g.weights))]
    for actual, expected in zip(singles, batches.epoch(5, first), strict=True):
        jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_order_depends_only_on_seed_and_epoch():
    def order(seed, epoch):
        return [b.labels.tolist() for b in Batches(examples(100), 10, seed=seed).epoch(epoch)]

    assert order(0, 5) == order(0, 5)
    assert order(0, 5) != order(0, 6)
    assert order(0, 5) != order(1, 5)


def test_without_seed_the_order_of_the_split_is_kept():
    batches = list(Batches(examples(5), 2).epoch())
    assert [batch.labels.tolist() for batch in batches] == [[0, 1], [2, 3], [4, 0]]
    assert batches[-1].weights.tolist() == [1, 0]


BUCKETS = (4, 6, 9)


def tokens(lengths):
    """Tokens whose id is 100 * i + j + 1 for token j of text i; padding is 0."""
    lengths = np.array(lengths, np.int32)
    columns = np.arange(BUCKETS[-1], dtype=np.int32)
    ids = 100 * np.arange(len(lengths), dtype=np.int32)[:, None] + columns + 1
    real = columns < lengths[:, None]
    return Tokens(ids * real, (real & (columns > 1)).astype(np.int32), lengths)


def texts(lengths):
    """Texts tokenised with two vocabularies; each pair has the two lengths of one text."""
    inputs = {
        "one": tokens([one for one, _ in lengths]),
        "two": tokens([two for _, two in lengths]),
    }
    return Examples(inputs, np.arange(len(lengths), dtype=np.int32))


def single(*lengths):
    return texts([(length, 1) for length in lengths])


def real_rows(batch):
    return batch.ids[batch.weights == 1]


def bucket_of(lengths):
    return next(length for length in BUCKETS if length >= max(lengths))


lengths_of_texts = st.lists(st.tuples(*[st.integers(1, BUCKETS[-1])] * 2), min_size=1, max_size=40)
batch_sizes, seeds = st.integers(1, 9), st.none() | st.integers(0, 3)


@given(lengths_of_texts, batch_sizes, seeds, st.integers(0, 3))
def test_bucketing_counts_every_text_once_and_adds_no_batches(lengths, batch_size, seed, epoch):
    batches = Batches(texts(lengths), batch_size, seed=seed, buckets=BUCKETS)
    epoch_batches = list(batches.epoch(epoch))
    assert len(batches) == len(epoch_batches) == -(-len(lengths) // batch_size)
    rows = np.concatenate([real_rows(batch) for batch in epoch_batches])
    assert sorted(rows) == list(range(len(lengths)))
    assert sum(0 in batch.weights for batch in epoch_batches) <= 1
    for batch in epoch_batches:
        assert set(batch.weights) <= {0, 1}
        assert batch.weights.shape == batch.ids.shape == (batch_size,)
        np.testing.assert_array_equal(batch.labels, batch.ids)


@given(lengths_of_texts, batch_sizes, seeds, st.integers(0, 3))
def test_batch_is_padded_to_the_smallest_bucket_that_fits_all_vocabularies(
    lengths, batch_size, seed, epoch
):
    mixed = collections.Counter()
    for batch in Batches(texts(lengths), batch_size, seed=seed, buckets=BUCKETS).epoch(epoch):
        (length,) = {inputs.ids.shape[1] for inputs in batch.inputs.values()}
        buckets = {bucket_of(lengths[row]) for row in real_rows(batch)}
        assert length == max(buckets)
        mixed[length] += len(buckets) > 1
    assert max(mixed.values()) <= 1  # Only one batch per length has leftovers of shorter buckets.


@given(lengths_of_texts, batch_sizes, seeds)
def test_bucketing_keeps_all_tokens(lengths, batch_size, seed):
    for batch in Batches(texts(lengths), batch_size, seed=seed, buckets=BUCKETS).epoch():
        for vocabulary, name in enumerate(("one", "two")):
            inputs = batch.inputs[name]
            assert inputs.ids.shape == inputs.token_type_ids.shape
            for place, row in enumerate(real_rows(batch)):
                count = lengths[row][vocabulary]
                expected = [100 * row + 1 + column for column in range(count)]
                assert inputs.lengths[place] == count
                assert inputs.ids[place, :count].tolist() == expected
                assert (
                    inputs.token_type_ids[place].tolist()[:count] == ([0, 0] + [1] * count)[:count]
                )
                assert not inputs.ids[place, count:].any()


@given(lengths_of_texts, batch_sizes, seeds)
def test_all_epochs_have_the_same_shapes(lengths, batch_size, seed):
    def shapes(seed, epoch):
        batches = Batches(texts(lengths), batch_size, seed=seed, buckets=BUCKETS).epoch(epoch)
        return collections.Counter(batch.inputs["one"].ids.shape for batch in batches)

    assert shapes(seed, 0) == shapes(seed, 7) == shapes(5, 0)
    assert len(shapes(seed, 0)) <= len(BUCKETS)


@given(st.lists(st.integers(1, BUCKETS[-1]), min_size=1, max_size=40), batch_sizes, seeds)
def test_padding_is_the_fraction_of_tokens_that_are_not_real(lengths, batch_size, seed):
    batches = Batches(single(*lengths), batch_size, seed=seed, buckets=BUCKETS)
    epoch = [(batch.inputs["one"].ids, batch.weights) for batch in batches.epoch()]
    real = sum(np.count_nonzero(ids[weights == 1]) for ids, weights in epoch)
    assert batches.padding() == pytest.approx(1 - real / sum(ids.size for ids, _ in epoch))


def test_order_of_texts_depends_only_on_seed_and_epoch():
    examples = single(*np.random.default_rng(0).integers(1, 10, 100))

    def order(seed, epoch):
        batches = Batches(examples, 8, seed=seed, buckets=BUCKETS)
        return [batch.ids.tolist() for batch in batches.epoch(epoch)]

    assert order(0, 5) == order(0, 5)
    assert order(0, 5) != order(0, 6)
    assert order(0, 5) != order(1, 5)
    batches = Batches(examples, 8, seed=0, buckets=BUCKETS)
    assert [next(batches.epoch(5)).ids.tolist() for _ in range(2)] == [order(0, 5)[0]] * 2


def test_training_epoch_is_not_sorted_by_length():
    batches = Batches(single(*[3] * 80, *[9] * 80), 8, seed=0, buckets=BUCKETS)
    sizes = [batch.inputs["one"].ids.shape[1] for batch in batches.epoch()]
    assert sorted(sizes) == [4] * 10 + [9] * 10
    assert sizes not in (sorted(sizes), sorted(sizes)[::-1])


@pytest.mark.parametrize(
    ("batch_size", "ids", "sizes", "last_weights"),
    [
        (2, [[0, 2], [3, 1], [5, 4]], [4, 6, 9], [1, 1]),
        (4, [[0, 2, 3, 1], [5, 4, 0, 1]], [6, 9], [1, 1, 0, 0]),
        (8, [[0, 2, 3, 1, 5, 4, 0, 1]], [9], [1] * 6 + [0] * 2),
    ],
)
def test_without_seed_texts_are_sorted_by_length(batch_size, ids, sizes, last_weights):
    batches = list(Batches(single(3, 5, 4, 2, 9, 6), batch_size, buckets=BUCKETS).epoch())
    assert [batch.ids.tolist() for batch in batches] == ids
    assert [batch.inputs["one"].ids.shape for batch in batches] == [(batch_size, s) for s in sizes]
    assert batches[-1].weights.tolist() == last_weights


def test_batches_contain_the_stored_outputs_of_their_texts_and_view():
    logits = np.arange(12, dtype=np.float32).reshape(6, 2)
    views = [
        Outputs(logits + 100 * view, {"pooled": logits - view}, TopK.of(logits + view, 1))
        for view in range(2)
    ]
    batches = Batches(
        single(3, 5, 4, 2, 9, 6), 4, seed=0, buckets=BUCKETS, views=2, stored={"t": views}
    )
    for epoch, view in ((2, 0), (3, 1)):
        for batch in batches.epoch(epoch):
            outputs = batch.stored["t"]
            np.testing.assert_array_equal(outputs.logits, logits[batch.ids] + 100 * view)
            np.testing.assert_array_equal(outputs.features["pooled"], logits[batch.ids] - view)
            largest = logits[batch.ids, 1:] + view
            np.testing.assert_array_equal(outputs.top_k.values, largest)
            np.testing.assert_array_equal(batch.views, np.full(4, view))


def test_without_stored_teachers_a_batch_has_no_outputs():
    assert next(Batches(examples(4), 2).epoch()).stored == {}
