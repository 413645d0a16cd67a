import itertools

import numpy as np

from experiments import curves


def records(stages):
    """Records of epochs as metrics.jsonl has them, from pairs of a stage and its own fields."""
    return [
        {
            "stage": stage,
            "epoch": 1,
            "step": 10 * number,
            "learning_rate": 0.1 / number,
            "train_loss": 2.0 / number,
            "validation_accuracy": number / 10,
            "examples_per_second": 100.0,
            **fields,
        }
        for number, (stage, fields) in enumerate(stages, start=1)
    ]


ANNEALED = records(
    [
        ("stage_1", {"temperature": 2.0, "phi": 0.5}),
        ("stage_1", {"temperature": 1.0, "phi": 1.0}),
        ("stage_2", {}),
    ]
)
COMPOSED = records(
    ("kd", {"train_hint": 4.0 - n, "train_hint_scale": 0.5 - n / 4, "my_schedule": n / 2})
    for n in range(3)
)


def lines(figure):
    """The lines of each panel by its title, without the ends of the stages."""
    return {
        axes.get_title(): [line for line in axes.lines if line.get_label()[0] != "_"]
        for axes in figure.axes
        if axes.get_title()
    }


def test_panels_are_those_of_the_recorded_schedules():
    assert list(curves.panels(ANNEALED, "accuracy")) == [
        "train_loss",
        "validation_accuracy",
        "temperature",
        "phi",
        "learning_rate",
    ]


def test_panels_show_terms_and_their_weights_and_unknown_schedules_by_name():
    assert curves.panels(COMPOSED, "accuracy") == {
        "train_loss": "Training loss of each stage",
        "validation_accuracy": "Validation accuracy",
        "my_schedule": "My schedule",
        "train_hint": "Loss term: hint",
        "train_hint_scale": "Weight of the loss term: hint",
        "learning_rate": "Learning rate",
    }


def test_constant_schedules_have_no_panel():
    fields = {"temperature": 4.0, "train_soft_scale": 0.9}
    constant = records(("kd", {**fields, "train_soft": 3.0 - n}) for n in range(2))
    panels = curves.panels(constant, "accuracy")
    assert not panels.keys() & fields.keys()
    assert "train_soft" in panels
    # Two methods with different constants are compared.
    assert "temperature" in curves.panels([*constant, *ANNEALED], "accuracy")


def test_records_with_the_weight_0_are_no_terms_and_the_whole_loss_is_not_drawn_twice():
    rated = records(
        (
            "s",
            {
                "train_rate_a": n / 4,
                "train_rate_a_scale": 0.0,
                "train_labels": 2.0 / n,
                "train_labels_scale": 1.0,
            },
        )
        for n in range(1, 4)
    )
    panels = curves.panels(rated, "accuracy")
    assert panels["train_rate_a"] == "Rate a"
    assert "train_labels" not in panels
    (panel,) = [
        x
        for x in curves.draw_curves({"rl_kd": [rated]}, "accuracy").axes
        if x.get_title() == "Rate a"
    ]
    assert panel.get_yscale() == "linear"


def test_metric_of_the_task_is_the_first_score():
    scored = records(("s", {"validation_a": 0.1, "validation_f1": 0.2}) for _ in range(2))
    scores = [x for x in curves.panels(scored, "f1") if x.startswith("validation_")]
    assert scores == ["validation_f1", "validation_accuracy", "validation_a"]


def test_lines_are_the_recorded_values_with_gaps_where_there_are_none():
    drawn = lines(curves.draw_curves({"annealing_kd": [ANNEALED], "kd": [COMPOSED]}, "accuracy"))
    ((phi,), (hint,)) = drawn["Annealing factor Φ"], drawn["Loss term: hint"]
    assert (phi.get_label(), hint.get_label()) == ("annealing_kd", "kd")
    np.testing.assert_array_equal(phi.get_ydata(), [0.5, 1.0, np.nan])
    np.testing.assert_array_equal(hint.get_ydata(), [4.0, 3.0, 2.0])
    assert [len(panel) for panel in drawn.values()].count(2) == 3  # Loss, accuracy, learning rate.


def test_lines_of_several_seeds_are_their_mean():
    lower = [{**record, "validation_accuracy": 0.0} for record in ANNEALED]
    figure = curves.draw_curves({"annealing_kd": [ANNEALED, lower]}, "accuracy")
    (line,) = lines(figure)["Validation accuracy"]
    np.testing.assert_allclose(line.get_ydata(), [0.05, 0.1, 0.15])


def test_scale_is_logarithmic_only_for_positive_losses():
    values = itertools.count(-1)  # The loss of a policy can be negative.
    negative = [{**record, "train_loss": next(values)} for record in ANNEALED]
    for name, run in {"log": ANNEALED, "linear": negative}.items():
        first, *_ = curves.draw_curves({"method": [run]}, "accuracy").axes
        assert first.get_yscale() == name


def test_scores_that_were_not_finite_leave_a_gap():
    broken = [{**record, "validation_accuracy": None} for record in ANNEALED]
    figure = curves.draw_curves({"method": [broken]}, "accuracy")
    assert lines(figure)["Validation accuracy"] == []
    half = [broken[0], *ANNEALED[1:]]
    (line,) = lines(curves.draw_curves({"method": [half]}, "accuracy"))["Validation accuracy"]
    np.testing.assert_allclose(line.get_ydata(), [np.nan, 0.2, 0.3])
