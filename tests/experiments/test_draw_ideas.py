import itertools

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Bbox

from experiments import draw_ideas


@pytest.mark.parametrize("name", draw_ideas.IDEAS)
def test_boxes_are_inside_of_the_picture_and_do_not_overlap(name):
    figure = draw_ideas.draw(draw_ideas.IDEAS[name])
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    (axes,) = figure.axes
    boxes = {
        text.get_text(): text.get_bbox_patch().get_window_extent(renderer)
        for text in axes.texts
        if text.get_text() and text.get_fontsize() == 12
    }
    assert len(boxes) == len(draw_ideas.IDEAS[name].boxes)
    for text, box in boxes.items():
        assert figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 and box.y1 <= figure.bbox.y1, text
    for (text, one), (other_text, other) in itertools.combinations(boxes.items(), 2):
        assert Bbox.intersection(one, other) is None, (text, other_text)


def test_a_folder_that_does_not_exist_is_refused(tmp_path, run_launcher):
    ended = run_launcher(draw_ideas.main, f"--output={tmp_path / 'none'}")
    assert ended.code == 1
    assert "expected a file that can be written, got: No such file" in ended.stderr
    ended = run_launcher(draw_ideas.main, f"--output={tmp_path}")
    assert ended.code == 0
    pictures = {path.name for path in tmp_path.iterdir()}
    assert pictures == {f"idea_{name}.png" for name in draw_ideas.IDEAS}
