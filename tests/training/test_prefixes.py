"""Contexts that the student writes: which are kept, what they hold, and the loss on them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch

from akd_jax import losses, schedules
from akd_jax.losses.binding import value_weights
from akd_jax.methods import METHODS
from akd_jax.methods.imitkd import ImitationLoss
from akd_jax.models.network import Model, Network
from akd_jax.models.seq2seq import RecurrentConfig, RecurrentSeq2Seq
from akd_jax.runs import config
from akd_jax.teachers.live import LiveTeacher
from akd_jax.training.prefixes import REPLACED, StudentPrefixes
from akd_jax.training.step import train_step
from akd_jax.types import (
    SOURCE,
    TARGET,
    UNLABELLED,
    Batch,
    Clock,
    Outputs,
    TargetVocabulary,
    Task,
    Tokens,
)
from tests.support.steps import arrays, assert_close, make_state, update_on_four, update_on_one

PAD, START, END, SIZE = 0, 1, 2, 9
VOCABULARY = TargetVocabulary("key", SIZE, START, END, PAD, decode=list)
IMITATION = ImitationLoss(VOCABULARY)


def tokens(rows):
    ids = np.zeros((len(rows), 6), np.int32)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = row
    return Tokens(ids, np.zeros_like(ids), np.int32([len(row) for row in rows]))


def selected(inputs):
    return inputs["vocabulary"]


class Scripted(nn.Module):
    """Writes the text whose number is the first token of the source."""

    script: tuple[tuple[int, ...], ...]

    def __call__(self, texts, *, train=False, axis_name=None):
        raise AssertionError("only its texts are read")

    def start(self, texts, length):
        return texts[SOURCE].ids[:, 0]

    def step(self, cache, tokens, position):
        words = jnp.array(self.script)[cache, position]
        return jax.nn.one_hot(words, SIZE), cache


def prepared(prefixes, batch, model, seed=0):
    return jax.jit(prefixes)(model, {}, batch, Clock.at(), jax.random.key(seed))


def test_contexts_labels_and_masks_by_hand():
    # The first text ends early, the second does not end, and the third ends at once.
    script = ((5, 6, END, 7, 7), (3, 4, 5, 6, 7), (END, 3, 3, 3, 3))
    contexts = tokens([(START, 8, 8, 8), (START, 8), (START, 8, 8, 8, 8)])
    labels = np.int32(
        [
            (8, 8, 8, END, UNLABELLED, UNLABELLED),
            (8, END, UNLABELLED, UNLABELLED, UNLABELLED, UNLABELLED),
            (8, 8, 8, 8, END, UNLABELLED),
        ]
    )
    batch = Batch(
        {"vocabulary": {SOURCE: tokens([(0,), (1,), (2,)]), TARGET: contexts}},
        labels,
        np.ones(3, np.float32),
        ids=np.arange(3, dtype=np.int32),
    )
    model = Model({}, Network(Scripted(script), selected).apply)
    result = prepared(StudentPrefixes(VOCABULARY, schedules.constant(0.0)), batch, model)
    written = result.inputs["vocabulary"][TARGET]
    np.testing.assert_array_equal(
        written.ids,
        [(START, 5, 6, END, PAD, PAD), (START, 3, 4, 5, 6, 7), (START, END, *[PAD] * 4)],
    )
    # The end token is no context: nothing after it counts.
    np.testing.assert_array_equal(written.lengths, [3, 6, 1])
    np.testing.assert_array_equal(np.asarray(written.mask).sum(axis=1), [3, 6, 1])
    assert np.asarray(result.extra[REPLACED]).all()
    assert (np.asarray(result.labels) == UNLABELLED).all()
    assert (
        result.inputs["vocabulary"][SOURCE].ids.tolist()
        == batch.inputs["vocabulary"][SOURCE].ids.tolist()
    )

    kept = prepared(StudentPrefixes(VOCABULARY, schedules.constant(1.0)), batch, model)
    assert not np.asarray(kept.extra[REPLACED]).any()
    before = batch.inputs["vocabulary"][TARGET]
    after = kept.inputs["vocabulary"][TARGET]
    np.testing.assert_array_equal(after.ids, before.ids)
    np.testing.assert_array_equal(after.lengths, [4, 2, 5])
    np.testing.assert_array_equal(kept.labels, labels)
    # In a kept context, exactly the positions with a label count.
    outputs = Outputs(jnp.zeros((3, 6, SIZE)), mask=after.mask)
    weights = value_weights(jnp.zeros((3, 6)), outputs, kept)
    np.testing.assert_array_equal(weights, labels != UNLABELLED)


@pytest.fixture(scope="module")
def network():
    sizes = RecurrentConfig(
        source_size=SIZE, target_size=SIZE, embedding=6, width=8, layers=1, dropout=0.0
    )
    return Network(RecurrentSeq2Seq(sizes), selected)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    words = [rng.integers(3, SIZE, size=n).tolist() for n in (4, 2, 5, 3, 1, 4, 5, 2)]
    labels = np.full((8, 6), UNLABELLED, np.int32)
    for row, sequence in enumerate(words):
        labels[row, : len(sequence) + 1] = [*sequence, END]
    sources = [rng.integers(3, SIZE, size=n).tolist() for n in (3, 5, 2, 4, 6, 1, 2, 3)]
    texts = {SOURCE: tokens(sources), TARGET: tokens([(START, *row) for row in words])}
    weights = np.float32([1, 1, 1, 1, 1, 1, 1, 0])
    return Batch({"vocabulary": texts}, labels, weights, ids=np.arange(20, 28, dtype=np.int32))


@pytest.fixture(scope="module")
def teachers(network, batch):
    variables = jax.tree.map(lambda x: 3 * x, network.init(jax.random.key(5), batch.inputs))
    return {"teacher": LiveTeacher(Model(variables, network.apply))}


def imitating_state(network, batch, prefixes, loss=IMITATION):
    variables = jax.tree.map(lambda x: 2 * x, network.init(jax.random.key(1), batch.inputs))
    return make_state(
        network.module,
        batch.inputs,
        variables=variables,
        loss=loss,
        optimizer=optax.sgd(0.1),
        prepare=prefixes,
    ).replace(apply_fn=network.apply)


@pytest.mark.parametrize("temperature", [pytest.param(0.0, marks=pytest.mark.slow), 0.8])
def test_draws_and_texts_are_the_same_on_four_devices(network, batch, temperature):
    prefixes = StudentPrefixes(VOCABULARY, schedules.constant(0.5), temperature)
    variables = jax.tree.map(lambda x: 2 * x, network.init(jax.random.key(1), batch.inputs))
    model, key = Model(variables, network.apply), jax.random.key(3)
    one = prepared(prefixes, batch, model, seed=3)
    shards = jax.tree.map(lambda x: x.reshape(4, 2, *x.shape[1:]), batch)
    four = jax.pmap(
        lambda model, batch: prefixes(model, {}, batch, Clock.at(), key), in_axes=(None, 0)
    )(model, shards)
    replaced = np.asarray(one.extra[REPLACED])
    assert 0 < replaced.sum() < 8
    for mine, others in zip(
        jax.tree.leaves((one.inputs, one.labels, one.extra)),
        jax.tree.leaves((four.inputs, four.labels, four.extra)),
        strict=True,
    ):
        np.testing.assert_array_equal(mine, np.asarray(others).reshape(mine.shape))
    # The draws of another update differ.
    again = prepared(prefixes, batch, model, seed=4)
    assert (np.asarray(again.extra[REPLACED]) != replaced).any()


@pytest.mark.parametrize(
    ("update", "loss"),
    [(update_on_four, IMITATION), (update_on_one, losses.bind(losses.kl))],
    ids=["base on four devices", "full on one"],
)
def test_there_is_no_gradient_through_the_writing(network, batch, teachers, update, loss):
    prefixes = StudentPrefixes(VOCABULARY, schedules.constant(0.4))
    state = imitating_state(network, batch, prefixes, loss)
    # The same contexts, written beforehand.
    keys = []

    def spy(model, teachers, batch, clock, key):
        keys.append(key)
        return prefixes(model, teachers, batch, clock, key)

    @jax.jit
    def beforehand(state, teachers, batch):
        train_step(state.replace(prepare=spy), teachers, batch, jnp.int32(0))
        return prefixes(state.model, teachers, batch, Clock.at(), keys[-1])

    written = jax.device_get(beforehand(state, teachers, batch))
    assert 0 < written.extra[REPLACED].sum() < 8
    expected, _ = update(state.replace(prepare=None), teachers, [written])
    actual, _ = update(state, teachers, [batch])
    assert_close(arrays(actual), arrays(expected), 1e-6)


def test_losses_and_gradients_equal_those_of_pytorch(network, batch, teachers):
    prefixes = StudentPrefixes(VOCABULARY, schedules.constant(0.4))
    state = imitating_state(network, batch, prefixes)
    written = jax.device_get(prepared(prefixes, batch, state.model, seed=8))
    teacher = teachers["teacher"](written)
    mask = np.asarray(written.inputs["vocabulary"][TARGET].mask) & (batch.weights > 0)[:, None]
    replaced = written.extra[REPLACED]
    assert 0 < replaced.sum() < 8
    # A text of the teacher that was cut: it has no label at its end, which PyTorch leaves out too.
    cut = np.flatnonzero(~replaced & (batch.weights > 0))[0]
    labels = np.array(written.labels)
    labels[cut, np.flatnonzero(labels[cut] != UNLABELLED)[-1]] = UNLABELLED
    written = written.replace(labels=labels)
    rng = np.random.default_rng(1)
    logits = np.float32(rng.normal(size=(8, 6, SIZE)))
    token_mask = written.inputs["vocabulary"][TARGET].mask

    def mean(loss, logits):
        (term,) = loss(
            Outputs(logits, mask=token_mask), {"teacher": teacher}, written, Clock.at()
        ).values()
        return (term.values * term.weights).sum() / term.weights.sum()

    z = torch.tensor(logits, requires_grad=True)
    t = torch.tensor(np.asarray(teacher.logits))
    allowed = t.clone()
    allowed[..., [START, PAD]] = -torch.inf  # They are never written.
    best = torch.where(
        torch.tensor(replaced)[:, None], allowed.argmax(-1), torch.tensor(np.int64(written.labels))
    )
    rows = torch.tensor(mask)
    base = torch.nn.functional.cross_entropy(z[rows], best[rows])
    full = torch.nn.functional.kl_div(
        z[rows].log_softmax(-1), t[rows].log_softmax(-1), log_target=True, reduction="batchmean"
    )
    for full_loss, expected in ((False, base), (True, full)):
        settings = config.parse({"method": "imitkd", "imitkd": {"full": full_loss}})
        (stage,) = METHODS["imitkd"].build(settings, Task((), target=VOCABULARY)).stages
        loss = stage.loss
        value, gradient = jax.value_and_grad(lambda x, loss=loss: mean(loss, x))(logits)
        z.grad = None
        expected.backward(retain_graph=True)
        assert float(value) == pytest.approx(expected.item(), rel=1e-6)
        np.testing.assert_allclose(gradient, z.grad.numpy(), atol=1e-7)
