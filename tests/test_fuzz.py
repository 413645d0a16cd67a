"""Random configurations and files give either a one-line error or a correct result."""

import gzip
import math
import struct

import jax
import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from akd_jax import runs
from akd_jax.data.readers import idx, tsv
from akd_jax.host.errors import DivergedError, InputError
from akd_jax.runs import make_plan
from akd_jax.runs.resume import resume_key
from tests.support.configs import small_config


def flattened(section, prefix=""):
    for name, value in section.items():
        if isinstance(value, dict):
            yield prefix + name, value
            yield from flattened(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


WORDS = st.sampled_from(
    ["M", "FC", "FC3", "4", "64", "plain_cnn:", "resnet:8", "resnet:", "huggingface:", ",every=2"]
)
SPECS = st.lists(WORDS, max_size=6).map(" ".join) | st.lists(WORDS, max_size=6).map("".join)
TEXTS = (
    st.text(max_size=20) | SPECS | st.sampled_from(["kd", "adamw", "sgd", "cifar10", "tsv", "/"])
)
NUMBERS = st.integers(-3, 50) | st.integers() | st.floats() | st.floats(0, 1)
VALUES = {
    bool: st.booleans(),
    int: st.integers(1, 9) | st.integers(-3, 500) | st.integers(),
    float: st.floats(0, 1) | st.floats(),
    str: TEXTS,
}
ANYTHING = NUMBERS | TEXTS | st.booleans() | st.none() | st.lists(NUMBERS, max_size=2)


@st.composite
def changes(draw):
    """Some fields with other values: two thirds have the right type, the others any type."""
    fields = dict(flattened(small_config().to_dict()))
    names = draw(st.lists(st.sampled_from(sorted(fields)), min_size=1, max_size=4, unique=True))
    values = {}
    for name in names:
        right = VALUES.get(type(fields[name]), st.just(fields[name]))
        values[name] = draw(right | right | ANYTHING)
    if draw(st.integers(0, 9)) == 0:
        values[draw(st.text("abc.", min_size=1, max_size=5))] = draw(ANYTHING)
    return values


def changed(config, fields):
    for name, value in fields.items():
        *parents, last = name.split(".")
        section = config
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                break
        else:
            section[last] = value
    return config


def key_of(plan):
    return resume_key(plan.settings, plan.dataset.task, plan.method.teachers)


def assert_one_line(error):
    text = str(error)
    assert text
    assert "\n" not in text


@given(changes())
@settings(max_examples=100)
@example({"dataset.data_dir": "\0", "dataset.name": "tsv"})
@example({"teacher.path": "\0"})
@example({"student.model": "huggingface:\0"})
@example({"student.model": "resnet:600002"})
@example({"student.model": "plain_cnn:4 " * 3000})
@example({"student.model": "plain_cnn:999999999999 M FC"})
@example({"student.epochs": 10**30})
@example({"batch_size": 2**62, "grad_accumulation_steps": 2**61})
@example({"student.optimizer.learning_rate": 1e308})
@example({"student.optimizer.learning_rate": 10**400})
def test_configuration_is_refused_in_one_line_or_planned(fields):
    config = changed(small_config().to_dict(), fields)
    try:
        plan = make_plan(config)
    except InputError as error:
        assert_one_line(error)
        return
    # The plan has the given values, and all stages have valid schedules.
    assert key_of(plan) == key_of(make_plan(plan.settings.model_dump()))
    given_fields = dict(flattened(config))
    for name, planned in flattened(plan.settings.model_dump()):
        value = given_fields[name]
        assert planned == value or isinstance(value, dict)
        assert isinstance(planned, bool) == isinstance(value, bool)
    for stage in plan.method.stages:
        first, last = stage.temperature_step(0), stage.temperature_step(stage.epochs - 1)
        assert 0 == first <= last < stage.epochs


SMALL = {
    "batch_size": st.sampled_from([4, 36, 200, 1200, 1204]),
    "grad_accumulation_steps": st.integers(1, 3),
    "skip_nonfinite": st.booleans(),
    "checkpoint_every": st.integers(1, 9),
    "seed": st.integers(0, 2**32 - 1),
    "dataset.train_size": st.integers(0, 1300),
    "dataset.validation_size": st.integers(0, 1600),
    "dataset.crop_padding": st.integers(0, 9),
    "dataset.flip": st.booleans(),
    "teacher.views": st.integers(0, 3),
    "student.model": SPECS,
    "student.epochs": st.integers(1, 3),
    "student.optimizer.learning_rate": st.floats(1e-30, 1e30),
    "student.optimizer.clip_norm": st.floats(0, 1e30),
    "student.optimizer.schedule": st.sampled_from(["constant", "step", "linear", "cosine"]),
    "student.optimizer.name": st.sampled_from(["sgd", "adamw"]),
    "student.optimizer.restart_each_temperature": st.booleans(),
    "annealing_kd.stage_1.epochs": st.integers(1, 3),
    "annealing_kd.max_temperature": st.integers(1, 4),
    "annealing_kd.stage_1.optimizer.learning_rate": st.floats(1e-30, 1e30),
    "method": st.sampled_from(["scratch", "kd", "annealing_kd", "continuation_kd"]),
    "continuation_kd.psi": st.sampled_from(["ramp", "step"]),
    "kd.temperature": st.floats(1e-30, 1e30),
    "kd.weight": st.floats(0, 1),
}
EXPECTED_ERRORS = (InputError, DivergedError)


@given(st.fixed_dictionaries({}, optional=SMALL), st.randoms(use_true_random=False))
@settings(max_examples=4)
def test_run_is_refused_in_one_line_or_ends_with_scores(tmp_path_factory, fields, random):
    kept = dict(random.sample(sorted(fields.items()), min(len(fields), 4)))
    config = small_config().to_dict()
    config["teacher"]["epochs"] = 1
    config["student"]["epochs"] = 3
    config["annealing_kd"]["stage_1"]["epochs"] = 2
    config["continuation_kd"]["max_temperature"] = 1
    config["continuation_kd"]["psi_until"] = 3
    try:
        # The search of JAX for NaN can recurse without end in a diverged model.
        with jax.debug_nans(False):
            results = runs.run(changed(config, kept), tmp_path_factory.mktemp("run"))
    except EXPECTED_ERRORS as error:
        assert_one_line(error)
        return
    for score in ("validation", "test", "test_last"):
        assert 0 <= results["student"][score] <= 1
    stages = results["stages"]
    assert sum(stage["epochs"] for stage in stages) == config["student"]["epochs"]
    for stage in stages:
        assert stage["temperatures"][-1:] in ([], [1], [config["kd"]["temperature"]])
        assert stage["traces"] == 1


@given(st.binary(max_size=300) | st.text("ab01\t\n\r\0é\u2028 ", max_size=200).map(str.encode))
@settings(max_examples=200)
@example(b"sentence\tlabel\n\n")
@example(b"\xef\xbb\xbfsentence\tlabel\na\t0\nb\t1\n")
@example(b"sentence\tlabel\r\na\t0\r\nb\t1\r\n")
def test_table_is_refused_in_one_line_or_read_row_by_row(tmp_path_factory, content):
    folder = tmp_path_factory.getbasetemp()
    for header in (b"", b"sentence\tlabel\n"):
        for name in ("train", "dev"):
            (folder / f"{name}.tsv").write_bytes(header + content)
        try:
            source = tsv.load(folder)
        except InputError as error:
            assert_one_line(error)
            continue
        text = (header + content).decode("utf-8-sig").replace("\r\n", "\n").rstrip("\n")
        lines = text.split("\n")
        columns = [lines[0].split("\t").index(name) for name in (*source.columns, "label")]
        rows = [[line.split("\t")[column] for column in columns] for line in lines[1:]]
        assert source.train.inputs.tolist() == [row[:-1] for row in rows]
        names = [source.task.labels[label] for label in source.train.labels]
        assert names == [row[-1] for row in rows]


@st.composite
def idx_files(draw):
    """An IDX file that may be valid, truncated, of wrong sizes or compressed."""
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=4))
    written_shape = draw(
        st.just(shape) | st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=4)
    )
    head = draw(st.just([0, 0, 8, len(written_shape)]) | st.lists(st.integers(0, 255), max_size=4))
    body = draw(st.binary(min_size=math.prod(shape), max_size=math.prod(shape)))
    content = bytes(head) + struct.pack(f">{len(written_shape)}I", *written_shape) + body
    content = content[: draw(st.just(len(content)) | st.integers(0, len(content)))]
    return draw(st.sampled_from([content, gzip.compress(content), gzip.compress(content)[:-3]]))


@given(st.lists(idx_files(), min_size=4, max_size=4), st.booleans())
@settings(max_examples=200)
def test_idx_files_are_refused_in_one_line_or_read(tmp_path_factory, files, packed):
    folder = tmp_path_factory.getbasetemp() / f"idx_{packed}"
    folder.mkdir(exist_ok=True)
    names = [name for pair in idx.FILES.values() for name in pair]
    for name, content in zip(names, files, strict=True):
        (folder / (f"{name}.gz" if packed else name)).write_bytes(content)
    try:
        source = idx.load(folder)
    except InputError as error:
        assert_one_line(error)
        return
    for split in (source.train, source.test):
        assert split.inputs.dtype == np.uint8
        assert len(split.inputs) == len(split.labels) > 0
        assert split.labels.max() < source.task.outputs
