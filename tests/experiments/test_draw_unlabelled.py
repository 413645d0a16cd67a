import numpy as np
import pytest

from akd_jax.host.errors import InputError
from experiments.draw_unlabelled import draw


def comparison(**means):
    rows = {name: {"test": {"mean": mean, "std": 0.01}} for name, mean in means.items()}
    return {"metric": "pearson", "methods": rows, "teachers": {"teacher": {"test": 0.7}}}


def test_rows_with_numbers_are_lines_and_the_others_are_levels():
    record = comparison(gold=0.5, kd=0.4, kd_20=0.6, kd_3=0.45, top_k=0.3)
    (axes,) = draw(record, "title").axes
    (container,) = axes.containers
    np.testing.assert_array_equal(container[0].get_xdata(), [0, 3, 20])
    np.testing.assert_array_equal(container[0].get_ydata(), [0.4, 0.45, 0.6])
    levels = {x.get_label(): x.get_ydata()[0] for x in axes.lines if x.get_label()[0] != "_"}
    assert levels == {"gold": 0.5, "top_k": 0.3, "teacher": 0.7}
    assert axes.get_ylabel() == "test pearson"


def test_comparisons_without_such_rows_are_refused():
    with pytest.raises(InputError, match="expected a comparison with rows such as kd and kd_6000"):
        draw(comparison(gold=0.5, kd=0.4), "")
