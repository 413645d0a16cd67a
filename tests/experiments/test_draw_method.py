import numpy as np

from experiments.draw_method import draw


def heights(axis):
    return [bar.get_height() for bar in axis.patches]


def test_bars_are_annealed_logits_and_the_label():
    logits = np.array([4.0, -2.0, 0.5])
    figure = draw(np.zeros((8, 8)), logits, label=1, max_temperature=10)
    image, *annealed, label = figure.axes
    assert [axis.get_title() for axis in annealed] == [
        "T = 10, Φ = 0.1",
        "T = 7, Φ = 0.4",
        "T = 4, Φ = 0.7",
        "T = 1, Φ = 1",
    ]
    for axis, phi in zip(annealed, (0.1, 0.4, 0.7, 1.0), strict=True):
        np.testing.assert_allclose(heights(axis), phi * logits, rtol=1e-6)
    assert heights(label) == [0, 1, 0]
    assert image.get_title() == "input"
