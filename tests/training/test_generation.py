"""Greedy writing, sampling and beam search, against brute force and a network without a cache."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax.models.seq2seq import Seq2SeqConfig, Transformer
from akd_jax.training.beam_search import beam_search
from akd_jax.training.generation import Writing, greedy, sample, written_lengths
from akd_jax.types import SOURCE, TARGET
from tests.support.marian import END, PAD, SIZE, texts

WRITING = Writing(12, PAD, END, PAD)


@pytest.fixture(scope="module")
def network():
    """A network whose random outputs have several lengths."""
    config = Seq2SeqConfig(
        source_size=SIZE,
        target_size=SIZE,
        width=8,
        encoder_layers=1,
        decoder_layers=2,
        heads=2,
        inner_width=12,
        initializer_range=0.3,
        pad=PAD,
        start=PAD,
        end=END,
    )
    module = Transformer(config)
    variables = jax.jit(module.init)(jax.random.key(0), texts([3], [2]))
    variables["params"]["output_bias"] = jax.nn.one_hot(END, SIZE)
    return module, variables


def steps_of(network, source, length=WRITING.length):
    """The step of a network, and its cache for some sources."""
    module, variables = network

    def step(cache, tokens, position):
        return module.apply(variables, cache, tokens, position, method="step")

    return step, module.apply(variables, {SOURCE: source}, length, method="start")


def write(network, source, writing=WRITING):
    @jax.jit
    def compiled(source):
        return greedy(*steps_of(network, source, writing.length), len(source.ids), writing)

    return np.asarray(compiled(source))


SOURCES = texts([5, 9, 2, 7, 4, 3, 8, 6], [2] * 8)[SOURCE]


def test_greedy_writing_equals_that_without_a_cache(network):
    module, variables = network
    tokens = np.full((8, WRITING.length), PAD, np.int32)
    ended = np.zeros(8, bool)
    apply = jax.jit(module.apply)
    for position in range(WRITING.length - 1):
        context = texts([1] * 8, [WRITING.length] * 8)[TARGET].replace(ids=tokens)
        logits = np.array(apply(variables, {SOURCE: SOURCES, TARGET: context}).logits)[:, position]
        logits[:, PAD] = -np.inf
        tokens[:, position + 1] = np.where(ended, PAD, logits.argmax(axis=-1))
        ended |= tokens[:, position + 1] == END
    written = write(network, SOURCES)
    np.testing.assert_array_equal(written, tokens)
    # Some sequences end early, and only padding follows the end.
    lengths = np.asarray(written_lengths(written, WRITING))
    assert lengths.min() < lengths.max() == WRITING.length - 1
    for row, length in zip(written, lengths, strict=True):
        assert row[0] == PAD
        assert not np.isin(row[1 : length + 1], [PAD, END]).any()
        if length < WRITING.length - 1:
            assert row[length + 1] == END
            assert (row[length + 2 :] == PAD).all()


def test_a_row_is_written_alike_alone_with_more_padding_and_on_four_devices(network):
    expected = write(network, SOURCES)
    for row in (0, 2):
        alone = jax.tree.map(lambda x, row=row: x[row : row + 1], SOURCES)
        np.testing.assert_array_equal(write(network, alone), expected[row : row + 1])
    wider = np.full((8, 14), PAD, np.int32)
    wider[:, :9] = SOURCES.ids
    padded = SOURCES.replace(ids=wider, token_type_ids=np.zeros_like(wider))
    np.testing.assert_array_equal(write(network, padded), expected)
    shares = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), SOURCES)
    on_devices = jax.pmap(lambda source: greedy(*steps_of(network, source), 2, WRITING))
    np.testing.assert_array_equal(on_devices(shares).reshape(8, -1), expected)


def scripted(probabilities):
    """A step without a network: the next token depends on the last one and on the position."""
    table = jnp.log(jnp.asarray(probabilities))

    def step(cache, tokens, position):
        return table[position, tokens], cache

    return step


def all_sequences(size, words, writing):
    """All sequences of a length: words and the end, or only words at the full length."""
    for count in range(words + 1):
        for body in itertools.product(
            [x for x in range(size) if x not in (writing.start, writing.end, writing.pad)],
            repeat=count,
        ):
            ended = (*body, writing.end) if count < words else body
            padding = (writing.pad,) * (words - len(ended))
            yield (writing.start, *ended, *padding)


@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
def test_beam_search_equals_brute_force(alpha):
    size, writing = 5, Writing(5, start=1, end=2, pad=0)
    table = np.random.default_rng(3).dirichlet(np.ones(size) * 0.7, size=(4, size))
    step = scripted(table)
    scores = {}
    for sequence in all_sequences(size, 4, writing):
        log_p = 0.0
        pairs = list(itertools.pairwise(sequence))
        for position, (last, word) in enumerate(pairs):
            if word == writing.pad:
                break
            log_p += np.log(table[position, last, word])
        length = sum(word != writing.pad for word in sequence) - 1
        scores[sequence] = log_p / length**alpha
    best = sorted(scores, key=scores.get, reverse=True)[:3]
    search = jax.jit(
        lambda: beam_search(step, jnp.zeros(2), 2, writing, beams=40, length_penalty=alpha)
    )
    tokens, values = search()
    for row in range(2):
        np.testing.assert_array_equal(tokens[row, :3], best)
        np.testing.assert_allclose(values[row, :3], [scores[x] for x in best], rtol=1e-4)
        # Only so many sequences are possible.
        assert (values[row, : len(scores)] > -1e3).all()
        assert len(scores) < 40
        assert (values[row, len(scores) :] < -1e20).all()


def test_one_beam_equals_greedy_writing_and_scores_are_log_probabilities(network):
    module, variables = network
    expected = write(network, SOURCES)

    @jax.jit
    def search(source):
        step, cache = steps_of(network, source)
        return [beam_search(step, cache, 8, WRITING, beams=beams) for beams in (1, 4)]

    (one, _), (four, scores) = search(SOURCES)
    np.testing.assert_array_equal(one[:, 0], expected)
    best = np.asarray(four[:, 0])
    context = texts([1] * 8, [WRITING.length] * 8)[TARGET].replace(ids=best)
    logits = jax.jit(module.apply)(variables, {SOURCE: SOURCES, TARGET: context}).logits
    log_p = np.asarray(jax.nn.log_softmax(logits))[:, :-1]
    of_words = np.take_along_axis(log_p, best[:, 1:, None], axis=-1)[..., 0]
    np.testing.assert_allclose(
        scores[:, 0], np.where(best[:, 1:] != PAD, of_words, 0).sum(axis=1), rtol=1e-4
    )
    assert (np.diff(scores, axis=1) <= 0).all()
    greedy_p = np.asarray(search(SOURCES)[0][1])[:, 0]
    assert (scores[:, 0] >= greedy_p - 1e-4).all()
    assert (scores[:, 0] > greedy_p + 1e-4).any()


def test_samples_have_the_probabilities_of_the_softmax():
    size, writing, count = 6, Writing(2, start=1, end=2, pad=0), 20_000
    p = np.random.default_rng(0).dirichlet(np.ones(size), size=(1, size))
    keys = jax.random.split(jax.random.key(0), count)
    allowed = p[0, 1].copy()
    allowed[[0, 1]] = 0

    def shares(**options):
        tokens = jax.jit(lambda: sample(scripted(p), jnp.zeros(count), keys, writing, **options))()
        return np.bincount(tokens[:, 1], minlength=size) / count

    def expected(kept, temperature=1.0):
        q = np.where(kept, allowed, 0) ** (1 / temperature) * kept
        return q / q.sum()

    everything = allowed > 0
    order = np.argsort(-allowed)
    np.testing.assert_allclose(shares(), expected(everything), atol=0.012)
    np.testing.assert_allclose(shares(temperature=2.0), expected(everything, 2.0), atol=0.012)
    np.testing.assert_allclose(
        shares(top_k=2), expected(np.isin(np.arange(size), order[:2])), atol=0.012
    )
    q = allowed[order] / allowed.sum()
    # The smallest set whose probability reaches 0.7.
    kept = order[: np.searchsorted(np.cumsum(q), 0.7) + 1]
    np.testing.assert_allclose(
        shares(top_p=0.7), expected(np.isin(np.arange(size), kept)), atol=0.012
    )


def test_a_sample_depends_on_its_key_alone(network):
    keys = jax.random.split(jax.random.key(3), 8)

    @jax.jit
    def draw(source, keys):
        return sample(*steps_of(network, source), keys, WRITING)

    expected = np.asarray(draw(SOURCES, keys))
    order = np.array([5, 1, 7, 0, 2, 3, 6, 4])
    shuffled = jax.tree.map(lambda x: x[order], SOURCES)
    np.testing.assert_array_equal(draw(shuffled, keys[order]), expected[order])
    shares = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), SOURCES)
    on_devices = jax.pmap(lambda source, keys: sample(*steps_of(network, source), keys, WRITING))
    np.testing.assert_array_equal(on_devices(shares, keys.reshape(4, 2)).reshape(8, -1), expected)
    assert (np.asarray(draw(SOURCES, jax.random.split(jax.random.key(4), 8))) != expected).any()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda: Writing(1, 1, 2, 0), "length: expected at least 2 tokens"),
        (lambda: Writing(5, 1, 0, 0), "end: expected another token than"),
        (
            lambda: sample(scripted(np.ones((1, 3, 3))), None, jnp.zeros(1), WRITING, top_p=0),
            "0 < top_p <= 1, got 1.0, 0 and 0",
        ),
        (
            lambda: beam_search(scripted(np.ones((1, 3, 3))), None, 1, WRITING, beams=0),
            "beams: expected at least 1, got 0",
        ),
    ],
)
def test_wrong_options_are_refused(write, message):
    with pytest.raises(ValueError, match=message):
        write()
