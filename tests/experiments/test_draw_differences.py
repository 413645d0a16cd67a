import json

import pytest

from akd_jax.host.errors import InputError
from experiments import draw_differences
from experiments.draw_differences import draw


def comparison(**rows):
    """A comparison with kd, whose test score is 0.5, and rows with their score and interval."""
    methods = {
        name: {"test": {"mean": mean}, "against": {"kd": [low, high]}}
        for name, (mean, low, high) in rows.items()
    }
    return {"references": ["kd"], "methods": {"kd": {"test": {"mean": 0.5}}, **methods}}


def test_each_row_is_a_point_with_its_interval():
    one = comparison(scratch=(0.4, -0.15, -0.05), best=(0.6, 0.02, 0.15))
    other = comparison(best=(0.51, -0.01, 0.03))
    figure = draw({"one": one, "other": other}, "kd")
    left, right = figure.axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["scratch", "best"]
    assert (left.get_title(), right.get_title()) == ("one", "other")
    drawn = [(list(line.get_xdata()), list(line.get_ydata())) for line in left.lines[1:]]
    expected = [([-15, -5], [0, 0]), ([-10], [0]), ([2, 15], [1, 1]), ([10], [1])]
    for (xs, ys), (expected_xs, expected_ys) in zip(drawn, expected, strict=True):
        assert xs == pytest.approx(expected_xs)
        assert ys == expected_ys
    # Worse, better, and not significantly different.
    colors = [line.get_color() for line in (*left.lines[1::2], right.lines[1])]
    assert colors == ["C3", "C2", "C7"]
    assert len(right.lines) == 3


def test_comparisons_with_other_references_are_refused():
    with pytest.raises(InputError, match="to compare its rows with scratch, got comparisons with"):
        draw({"one": comparison()}, "scratch")


def test_files_that_are_no_comparisons_are_refused(tmp_path, run_launcher):
    path = tmp_path / "digits.json"
    output = f"--output={tmp_path / 'a.png'}"
    ended = run_launcher(draw_differences.main, f"--comparisons={path}", output)
    assert "expected a file comparison.json, got" in ended.stderr
    path.write_text(json.dumps(comparison(best=(0.6, 0.02, 0.15))))
    assert run_launcher(draw_differences.main, f"--comparisons={path}", output).code == 0
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"methods": {}}, "expected digits to compare its rows with kd, got comparisons with none"),
        (
            {
                **comparison(),
                "methods": {"kd": {"test": {"mean": 0.5}}, "bad": {"test": {"mean": None}}},
            },
            "expected finite scores, got none of bad in digits; leave it out",
        ),
    ],
)
def test_comparisons_that_cannot_be_drawn_are_refused(tmp_path, run_launcher, content, message):
    path = tmp_path / "digits.json"
    path.write_text(json.dumps(content))
    output = f"--output={tmp_path / 'a.png'}"
    assert message in run_launcher(draw_differences.main, f"--comparisons={path}", output).stderr


def test_comparisons_have_the_names_of_their_folders(tmp_path, run_launcher):
    paths = [tmp_path / name / "comparison.json" for name in ("a", "b")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(json.dumps(comparison(best=(0.6, 0.02, 0.15))))
    output = f"--output={tmp_path / 'a.png'}"
    both = f"--comparisons={paths[0]},{paths[1]}"
    assert run_launcher(draw_differences.main, both, output).code == 0
    twice = f"--comparisons={paths[0]},{paths[0]}"
    ended = run_launcher(draw_differences.main, twice, output)
    assert "expected files with different names, got a twice" in ended.stderr
    assert "got none; run" in run_launcher(draw_differences.main, "--comparisons=", output).stderr
