import dataclasses

import pytest

from experiments.benchmarks import SUITES, hlo, memory, scaling
from experiments.benchmarks import measure as m


class Program:
    def __init__(self, text):
        self.text = text

    def as_text(self):
        return self.text


def test_collectives_are_read_with_their_bytes():
    program = Program(
        """
  %a = f32[10]{0} add(f32[10]{0} %x, f32[10]{0} %y)
  %all-reduce = (f32[3,2]{1,0}, f32[]) all-reduce(f32[3,2]{1,0} %b, f32[] %c), channel_id=1
  ROOT %g = bf16[8,4]{1,0} all-gather-start(bf16[2,4]{1,0} %d), dimensions={0}
"""
    )
    assert list(hlo.collectives(program)) == [("all-reduce", [24, 4]), ("all-gather", [64])]


def test_all_suites_are_there():
    assert list(SUITES) == sorted(SUITES)
    assert set(SUITES) == {
        "cache",
        "compile",
        "memory",
        "overhead",
        "scaling",
        "text",
        "torch",
    }


def test_what_a_resnet_keeps_is_what_its_layers_put_out():
    batch = next(iter(m.data.Batches(m.images(2), 2).epoch()))
    # ResNet-8: 7 3x3 convolutions and 2 shortcuts, each with its norm, and 10 logits.
    per_example = 2 * (3 * 16 * 32**2 + 3 * 32 * 16**2 + 3 * 64 * 8**2) + 10
    assert memory._kept(m.state("resnet:8"), batch) == 4 * 2 * per_example


def test_efficiency_falls_with_the_chips_and_rises_with_the_batch():
    resnet = scaling.RECIPES[0]
    sizes = [dataclasses.replace(scaling.SLICES[0], chips=chips) for chips in (1, 2, 16, 256)]
    assert scaling.efficiency(resnet, sizes[0], 32) == 1
    found = [scaling.efficiency(resnet, on, 32) for on in sizes]
    assert found == sorted(found, reverse=True)
    assert scaling.efficiency(resnet, sizes[2], 128) > found[2]
    # By hand: 32 images of 1.53 GFLOP at 27.5 TFLOP/s; 6.92 MB twice, less a 16th, at 50 GB/s; and
    # 219 times 8 microseconds.
    compute, reduce, ways = 32 * 1.53e9 / 27.5e12, 30 / 16 * 6.92e6 / 50e9, 219 * 8e-6
    assert found[2] == pytest.approx(compute / (compute + reduce + ways))
