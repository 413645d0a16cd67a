import dataclasses
import time

import jax
import numpy as np
import pytest
import torch

from akd_jax import data, models
from akd_jax.host.errors import InputError
from akd_jax.models.network import Model, Network
from experiments.benchmarks import (
    cache,
    children,
    composition,
    decoder,
    decoder_pytorch,
    decoder_sizes,
    generation_jax,
    generation_pytorch,
    hlo,
    memory,
    overhead,
    recurrent,
    recurrent_pytorch,
    scaling,
    timing,
    workload,
)
from experiments.benchmarks.losses import cases, pytorch, suite
from experiments.benchmarks.losses.series import measure_series
from experiments.benchmarks.torch_process import check_installed, torch_process
from tests.support.recurrent import parameters_of


class Clock:
    """A clock that only `wait` moves."""

    def __init__(self):
        self.seconds = 0.0

    def __call__(self):
        return self.seconds

    def wait(self, seconds):
        self.seconds += seconds


def scripted(durations, name, turns, clock):
    """A function whose calls take the given durations, one after the other."""
    durations = iter(durations)

    def run():
        turns.append(name)
        clock.wait(next(durations))

    return run


def test_median_of_paired_repeats_without_the_first_turn():
    clock, turns = Clock(), []
    functions = {
        "a": scripted([100, 1, 9, 2], "a", turns, clock),
        "b": scripted([200, 5, 3, 4], "b", turns, clock),
    }
    # By hand: the median of 1, 9, 2 is 2, and of 5, 3, 4 it is 4; 100 and 200 warm up.
    assert timing.median_times(functions, repeats=3, clock=clock) == {"a": 2, "b": 4}
    assert turns == ["a", "b"] * 4


def test_medians_without_warm_up_keep_the_first_turn():
    values = iter([3.0, 1.0, 8.0])
    assert timing.medians({"a": lambda: next(values)}, 3, warm_up=False) == {"a": 3.0}


def test_timed_divides_by_the_units_of_work():
    clock = Clock()
    assert timing.timed(lambda: clock.wait(6), units=4, clock=clock)() == 1.5


def test_pair_has_the_ratios_of_its_turns_without_the_first():
    clock, turns = Clock(), []
    baseline, variant = (
        timing.timed(scripted(durations, name, turns, clock), clock=clock)
        for name, durations in {"a": [100, 2, 4, 1], "b": [9, 3, 4, 5]}.items()
    )
    pair = timing.pair(baseline, variant, repeats=3)
    # By hand: 3 / 2, 4 / 4 and 5 / 1. Their median is not the ratio 4 / 2 of the medians.
    assert pair == timing.Pair(baseline=2, variant=4, ratios=(1, 1.5, 5))
    assert pair.ratio == 1.5
    assert pair.spread == "the pairs' ratios lie between 1.00 and 5.00."
    assert turns == ["a", "b"] * 4


def test_stage_ratio_by_hand():
    # 20 epochs of 1 s live against 20 x 0.2 s and 4 passes of 0.5 s: 20 / (4 + 2).
    ratio = cache.stage_ratio(1.0, 0.2, 0.5, epochs=20, views=4)
    assert ratio == pytest.approx(20 / 6)


@pytest.fixture
def examples():
    """Small random images."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 17, (24, 8, 8, 1)).astype(np.float32)
    return data.Examples(images, rng.integers(0, 10, 24).astype(np.int32))


@pytest.fixture
def network():
    return Network(models.build("plain_cnn:2 M 2 M FC", 10), data.Normalise((8.0,), (4.0,)))


@pytest.fixture
def student(network, examples):
    return Model(network.initial_variables(jax.random.key(0), examples.inputs[:1]), network.apply)


def train_epoch(run):
    """The state of a stage after its first epoch."""
    trainer = workload.Trainer(run)
    for batch in run.train.epoch():
        trainer(batch)
    return trainer.state


@pytest.mark.parametrize("steps_per_loop", [1, 2])
def test_overhead_case_times_the_loop_and_the_bare_step(steps_per_loop, network, examples):
    case = overhead.Case(network, examples, 8, epochs=3, steps_per_loop=steps_per_loop)
    assert case.loop_seconds() > 0
    assert case.bare_seconds() > 0


def test_composed_and_plain_loss_train_the_same_student(student, examples):
    runs = composition.plain_and_composed(student, examples, 8)
    plain, composed = (train_epoch(run).model.variables for run in runs)
    jax.tree.map(np.testing.assert_array_equal, plain, composed)
    kernels = [tree["params"]["Dense_0"]["kernel"] for tree in (student.variables, plain)]
    assert not np.array_equal(*kernels)


def test_stage_with_a_hint_reads_stored_features_and_trains_a_projector(student, examples):
    without, with_hint = composition.without_and_with_hint(student, examples, 8)
    assert next(without.train.epoch()).stored == {}
    stored = next(with_hint.train.epoch()).stored["teacher"].features
    assert stored[composition.LAYER].shape == (8, 4, 4, 2)  # Images of 8x8, pooled once.
    assert jax.tree.leaves(without.state.params["loss"]) == []
    before = jax.tree.leaves(with_hint.state.params["loss"])
    after = jax.tree.leaves(train_epoch(with_hint).params["loss"])
    assert before
    assert not any(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


def test_child_process_traces_its_step_once(tmp_path):
    child = children.start("first_step", "plain_cnn:2 M FC", XDG_CACHE_HOME=str(tmp_path))
    assert children.result(child)["traces"] == 1


def test_failed_child_process_is_an_error():
    with pytest.raises(RuntimeError, match="expected exit code 0, got 1"):
        children.result(children.start("first_step", "resnet:9"))


class Program:
    def __init__(self, text):
        self.text = text

    def as_text(self):
        return self.text


def test_collectives_and_their_bytes_are_read_from_the_program():
    program = Program(
        """
  %a = f32[10]{0} add(f32[10]{0} %x, f32[10]{0} %y)
  %all-reduce = (f32[3,2]{1,0}, f32[]) all-reduce(f32[3,2]{1,0} %b, f32[] %c), channel_id=1
  %reduce = pred[5]{0} all-reduce(pred[5]{0} %e), channel_id=2
  ROOT %g = bf16[8,4]{1,0} all-gather-start(bf16[2,4]{1,0} %d), dimensions={0}
"""
    )
    assert list(hlo.collectives(program)) == [
        ("all-reduce", [24, 4]),
        ("all-reduce", [5]),
        ("all-gather", [64]),
    ]


def test_layer_output_bytes_of_resnet_8():
    batch = next(data.Batches(workload.images(2), 2).epoch())
    # ResNet-8: 7 3x3 convolutions and 2 shortcuts, each with a batch norm, and 10 logits.
    per_example = 2 * (3 * 16 * 32**2 + 3 * 32 * 16**2 + 3 * 64 * 8**2) + 10
    assert (
        memory.layer_output_bytes(workload.random_model("resnet:8"), batch) == 4 * 2 * per_example
    )


def test_efficiency_falls_with_the_chips_and_rises_with_the_batch():
    resnet = scaling.RECIPES[0]
    slices = [dataclasses.replace(scaling.SLICES[0], chips=chips) for chips in (1, 2, 16, 256)]
    efficiencies = [scaling.efficiency(resnet, slice_, 32) for slice_ in slices]
    assert efficiencies[0] == 1
    assert efficiencies == sorted(efficiencies, reverse=True)
    assert scaling.efficiency(resnet, slices[2], 128) > efficiencies[2]


def test_efficiency_by_hand():
    # 32 images of 1.53 GFLOP at 27.5 TFLOP/s; 6.92 MB twice, less a 16th, at 50 GB/s; and
    # 219 times 8 microseconds.
    compute, reduce, latency = 32 * 1.53e9 / 27.5e12, 30 / 16 * 6.92e6 / 50e9, 219 * 8e-6
    assert scaling.efficiency(scaling.RECIPES[0], scaling.SLICES[0], 32) == pytest.approx(
        compute / (compute + reduce + latency)
    )


@pytest.mark.parametrize("name", ["(matrix product)", "(convolution)", "chunked kl", "rkd_angle"])
def test_the_suite_of_losses_measures_the_same_passes_in_both_libraries(name):
    case = next(case for case in cases.CASES if case.name == name)
    inputs = case.inputs()
    value, gradients = suite.jax_step(case, inputs)()
    torch_value, *torch_gradients = pytorch.torch_step(case, inputs)()
    np.testing.assert_allclose(value, torch_value.item(), rtol=1e-5)
    for gradient, expected in zip(jax.tree.leaves(gradients), torch_gradients, strict=True):
        np.testing.assert_allclose(gradient, expected.numpy(), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("beams", [1, 5])
def test_the_suite_of_generation_writes_the_same_texts_in_both_libraries(tmp_path, beams):
    model = generation_pytorch.save_model(str(tmp_path))
    ours = np.asarray(generation_jax.generation(generation_jax.load(tmp_path), 2, beams)())
    theirs = generation_pytorch.generation(model, 2, beams)().numpy()
    assert ours.shape == (2, 32)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.slow  # By default, other tests compare the same network with transformers.
def test_the_suite_of_decoders_measures_the_same_work_in_both_libraries(tmp_path):
    reference = decoder_pytorch.save_model(str(tmp_path))
    model = decoder.load(tmp_path)
    written = np.asarray(decoder.generation(model, 2)())
    theirs = decoder_pytorch.generation(reference, 2)().numpy()
    np.testing.assert_array_equal(written, theirs[:, decoder_sizes.PROMPT_LENGTH :])
    _, labels = decoder_sizes.rows()
    run = decoder.training_step(model)
    for module in reference.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    loss = decoder_pytorch.training_step(reference)()
    outputs = model(run.args[0].inputs)
    counted = np.asarray(outputs.mask)
    np.testing.assert_array_equal(counted, labels != -100)
    log_p = jax.nn.log_softmax(outputs.logits)[counted]
    expected = -np.asarray(log_p)[np.arange(counted.sum()), labels[counted]].mean()
    assert loss == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_the_suite_of_recurrent_layers_measures_the_same_steps_in_both_libraries(cell):
    layer = recurrent_pytorch.create_layer(cell)
    step = recurrent.training_step(cell, 4, {"params": parameters_of(layer)})
    torch_step = recurrent_pytorch.training_step(layer, 4)
    (value, gradient), (expected, wanted) = step(), torch_step()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted.numpy(), rtol=1e-4, atol=1e-8)
    assert step()[0] < value  # The parameters are updated.
    assert torch_step()[0] < expected


def test_a_series_divides_its_time_by_its_steps():
    starts = []

    def step():
        starts.append(time.perf_counter())

    measure = measure_series(step, lambda _: None)
    before = len(starts)
    seconds = measure()
    ended, count = time.perf_counter(), len(starts) - before - 1  # Without the warm-up.
    assert count > 1
    assert starts[-1] - starts[before + 1] <= count * seconds <= ended - starts[before]


def test_a_process_that_measures_pytorch_answers_or_reports_its_end(tmp_path, monkeypatch):
    (tmp_path / "stub.py").write_text("import sys; print(2 * float(input())); sys.exit(3)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with torch_process("stub") as measure:
        assert measure("0.75") == 1.5
        with pytest.raises(
            RuntimeError, match=r"^stub: .* seconds of '1', got the exit code 3; read"
        ):
            measure("1")
    with pytest.raises(
        InputError, match=r"^--suite=x: .* packages jax, nonesuch, got no nonesuch;"
    ):
        check_installed("x", "jax", "nonesuch")
