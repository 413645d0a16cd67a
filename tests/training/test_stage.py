import dataclasses

import pytest

from akd_jax.training.method import Method, Pretrained, Trained
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.training.stage import Stage
from tests.support.errors import error_of

OPTIMIZER = OptimizerConfig(learning_rate=0.1)


def no_loss(student, teachers, batch, clock):
    raise AssertionError("this loss must not be called")


def stage(name, epochs=1, **options):
    return Stage(name, epochs, no_loss, OPTIMIZER, **options)


def trained(method="teacher", *, model="resnet:8", seed=0, settings=None, teachers=None, epochs=1):
    """The recipe of a teacher that a method with its own loss trains."""
    # Every call builds another loss, as the methods do.
    own = Stage("scratch", epochs, lambda *args: no_loss(*args), OPTIMIZER)
    return Trained(
        model,
        Method(method, (own,), teachers or {}),
        seed,
        {"epochs": 1} if settings is None else settings,
        "config.teacher.model",
    )


def test_stage_rejects_zero_epochs():
    assert error_of(stage, "s", 0) == "s: expected at least 1 epoch, got 0; set more epochs"


@pytest.mark.parametrize("optimizer", ["optimizer", "loss_optimizer"])
def test_warm_up_must_end_before_the_stage(optimizer):
    five = stage("s", 5)
    slow = {optimizer: OptimizerConfig(warmup_epochs=5)}
    message = error_of(lambda: dataclasses.replace(five, **slow))
    assert message == "s: expected warmup_epochs below its 5 epochs, got 5; set fewer"
    dataclasses.replace(five, **{optimizer: OptimizerConfig(warmup_epochs=4)})


def test_a_stage_has_one_temperature_by_default():
    assert {stage("s", 3).temperature_step(epoch) for epoch in range(3)} == {0}


def test_method_counts_the_epochs_of_its_stages():
    assert Method("m", (stage("a", 2), stage("b", 3, start="a"))).epochs == 5


def test_a_stage_starts_from_an_earlier_one():
    for start, earlier in (("b", "a"), ("c", "a"), ("a", "there are none")):
        stages = (stage("a"), stage("b", start=start), stage("c"))
        stages = stages if start != "a" else stages[1:]
        message = error_of(Method, "m", stages)
        assert message == (
            f"m: expected the stage b to start from one of the earlier stages ({earlier}), got"
            f" {start!r}; change its start or the order of the stages"
        )


def test_stages_have_different_names():
    message = error_of(Method, "m", (stage("a"), stage("b"), stage("a")))
    assert message == "m: expected stages with different names, got 'a' twice; rename one"


def test_a_stage_has_no_teachers_name():
    message = error_of(Method, "m", (stage("big"),), {"big": Pretrained("a", "field")})
    assert message == (
        "m: expected different names of stages and teachers, got 'big' for both; rename one"
    )


def test_a_stage_reads_teachers_with_a_recipe():
    stages = (stage("a", teachers=("big",)), stage("b", teachers=("big", "small")))
    message = error_of(Method, "m", stages, {"big": trained()})
    assert message == (
        "m: expected a recipe for each teacher of the stage b, got none for 'small'; add it to the"
        " teachers of the method"
    )


def test_all_teachers_come_before_those_that_train_them():
    big, medium = trained(), Pretrained("runs/medium", "field")
    small = trained("assistant", teachers={"big": big, "medium": medium})
    method = Method("m", (stage("s", teachers=("small",)),), {"small": small, "other": medium})
    assert list(method.all_teachers()) == [
        ("small", small),
        ("big", big),
        ("medium", medium),
        ("other", medium),
    ]


def test_a_teacher_is_not_among_those_that_train_it():
    inner = trained("inner")
    middle = trained("middle", teachers={"a": inner})
    outer = trained("outer", teachers={"b": middle})
    message = error_of(Method, "m", (stage("s"),), {"a": outer})
    assert message == (
        "teachers: expected recipes without a circle, got a <- b <- a; give each teacher a"
        " different name"
    )


SAME = "teachers: expected one recipe for the teacher 'big', got two that differ; give each teacher"


@pytest.mark.parametrize(
    "other",
    [
        trained(model="resnet:20"),
        trained(seed=1),
        trained(settings={"epochs": 2}),
        trained(epochs=2),
        trained("another"),
        trained(teachers={"huge": Pretrained("a", "field")}),
        Pretrained("runs/big", "field"),
    ],
)
def test_one_name_means_one_recipe(other):
    assistant = trained("assistant", teachers={"big": trained()})
    for teachers in ({"small": assistant, "big": other}, {"big": other, "small": assistant}):
        message = error_of(Method, "m", (stage("s"),), teachers)
        assert message.startswith(SAME)


def test_recipes_of_the_teachers_of_a_teacher_are_compared():
    first = trained("first", teachers={"big": Pretrained("a", "field")})
    second = trained("second", teachers={"big": Pretrained("b", "field")})
    message = error_of(Method, "m", (stage("s"),), {"first": first, "second": second})
    assert message.startswith(SAME)


def test_equal_recipes_may_be_different_objects():
    def teachers():
        return {"big": trained(), "medium": Pretrained("a", "config.a.path")}

    assistant = trained("assistant", teachers=teachers())
    method = Method("m", (stage("s"),), {"small": assistant, **teachers()})
    # Each is obtained once.
    assert [name for name, _ in method.all_teachers()] == ["small", "big", "medium"]
    method = Method("m", (stage("s"),), {**teachers(), "small": assistant})
    assert [name for name, _ in method.all_teachers()] == ["small", "big", "medium"]
