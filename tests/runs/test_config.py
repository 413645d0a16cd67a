import re

import pytest
from ml_collections import config_dict

from akd_jax import methods, models
from akd_jax.host.errors import InputError
from akd_jax.host.settings import Section
from akd_jax.methods import kd
from akd_jax.methods.base import MethodSpec, RunSettings
from akd_jax.runs import config as schema
from akd_jax.runs.resume import resume_key
from akd_jax.runs.setup import make_plan
from akd_jax.training.optimizers import OptimizerConfig
from akd_jax.types import TargetVocabulary, Task
from configs import (
    cifar10,
    cifar100,
    cifar100_benchmark,
    default,
    demo,
    digits,
    fashion_mnist,
    fashion_teachers,
    movie_reviews,
    quality,
    reviews,
    speech,
    stream,
    translation,
)
from experiments.grid import row_config
from experiments.search_space import read_space
from tests.support.launching import ROOT


@pytest.mark.parametrize(
    ("module", "argument"),
    [
        (default, None),
        (digits, "kd"),
        (cifar10, "takd"),
        (cifar10, "annealing_kd,plain_cnn"),
        (cifar100, "continuation_kd"),
        (cifar100_benchmark, "resnet32x4-resnet8x4"),
        (cifar100_benchmark, "ResNet50-MobileNetV2,annealing_kd"),
        (fashion_mnist, "kd,plain_cnn"),
        (fashion_mnist, "takd,small"),
        (fashion_mnist, "small"),
        (fashion_mnist, "kd,all"),
        (fashion_teachers, None),
        (reviews, None),
        (speech, "augmentation"),
        (speech, "ft_kd,tenth"),
        (quality, "catalogs"),
        (quality, "mlqe,ro-en,2000"),
        (translation, "imitkd"),
        (translation, "gkd,iwslt14"),
        (stream, "base"),
        (demo, "teachers"),
    ],
)
def test_shipped_configs_are_valid_and_survive_a_round_trip(module, argument):
    config = module.get_config() if argument is None else module.get_config(argument)
    parsed = schema.parse(config)
    assert parsed.model_dump() == config.to_dict()
    assert schema.parse(parsed.model_dump()) == parsed
    # The epochs and temperatures fit every method that reads what the network reads.
    of_speech = models.input_kind(parsed.student.model) == "codes"
    target = TargetVocabulary("key", 4000, start=1, end=2, pad=0, decode=list)
    task = {
        quality: Task((), ("pearson",)),
        translation: Task((), ("bleu",), target=target),
        stream: Task((), ("score",), target=target),
    }.get(module, Task.numbered(10))
    for name in methods.METHODS:
        needs = {
            "textual_kd": of_speech,
            "multi_teacher": False,
            "l2kd": False,  # It reads the files of a stream; see test_l2kd.py.
            "rl_kd": parsed.rl_kd.teachers,
            **dict.fromkeys(("seq_kd", "imitkd", "gkd"), task.target),
        }
        if not needs.get(name, True):  # Speech, teachers by name, or texts to generate.
            continue
        built = methods.METHODS[name].build(parsed, task)
        assert built.epochs == parsed.student.epochs
    models.build(parsed.student.model, task.outputs)
    models.build(parsed.teacher.model, task.outputs)
    models.build(parsed.takd.assistant.model, task.outputs)


def test_rows_of_the_demos_in_the_makefile_are_valid():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    commands = re.findall(r"--config=configs/demo\.py:(\S+) .*", makefile)
    rows = {
        re.search(r"demo\.py:(\w+)", line)[1]: re.search(r"--methods=(\S+)", line)[1].split(",")
        for line in makefile.splitlines()
        if "configs/demo.py" in line and "--methods" in line
    }
    assert len(commands) == 6 and len(rows) == 5  # The stream is pretrained first.
    for system, names in rows.items():
        config = demo.get_config("stream,runs/base" if system == "stream" else system)
        for name in names:
            assert name in config.variants
            schema.parse(row_config(config, name))
    with pytest.raises(ValueError, match="expected one of speech, quality"):
        demo.get_config("images")


def test_movie_reviews_with_students_of_several_depths(monkeypatch):
    monkeypatch.setattr(movie_reviews, "minilm_folder", lambda: "minilm")
    for argument, every in (("kd", 3), ("kd,1", 6), ("kd,3", 2)):
        config = movie_reviews.get_config(argument)
        assert config.student.model == f"huggingface:minilm,every={every}"
        assert config.method == "kd"
        assert all(read_space(config, row) for row in config.search)
    for argument in ("kd,4", "kd,"):
        with pytest.raises(ValueError, match="with 1 to 3 layers, got"):
            movie_reviews.get_config(argument)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 0, "config.batch_size: expected greater than or equal to 1, got 0"),
        ("batch_size", "4", "config.batch_size: expected a valid integer, got '4'"),
        ("batch_size", True, "config.batch_size: expected a valid integer, got True"),
        ("seed", -1, "config.seed: expected greater than or equal to 0, got -1"),
        ("seed", 2**32, "config.seed: expected less than 4294967296, got 4294967296"),
        ("method", 3, "config.method: expected a valid string, got 3"),
        ("kd.weight", 1.5, "config.kd.weight: expected less than or equal to 1, got 1.5"),
        ("kd.temperature", 0.0, "config.kd.temperature: expected greater than 0, got 0.0"),
        (
            "student.optimizer.learning_rate",
            float("nan"),
            "config.student.optimizer.learning_rate: expected a finite number, got nan",
        ),
        (
            "student.optimizer.name",
            "sdg",
            "config.student.optimizer.name: expected 'sgd', 'adam', 'adamw' or"
            " 'adagrad', got 'sdg'",
        ),
        (
            "annealing_kd.max_temperature",
            0,
            "config.annealing_kd.max_temperature: expected greater than or equal to 1, got 0",
        ),
    ],
)
def test_wrong_value_is_named_in_the_error(config, field, value, message):
    fields = config.to_dict()
    *parents, name = field.split(".")
    section = fields
    for parent in parents:
        section = section[parent]
    section[name] = value
    with pytest.raises(InputError) as error:
        schema.parse(fields)
    assert str(error.value) == message


def test_unknown_fields_are_named_in_the_error(config):
    fields = config.to_dict()
    fields["student"]["epoch"] = 3
    with pytest.raises(InputError, match=r"^config.student.epoch: .*did you mean 'epochs'\?$"):
        schema.parse(fields)
    fields = config.to_dict()
    fields["annealing_kd"]["stage_1"]["epoch"] = 3
    message = r"^config.annealing_kd.stage_1.epoch: .*did you mean 'epochs'\?$"
    with pytest.raises(InputError, match=message):
        schema.parse(fields)
    fields = config.to_dict()
    fields["batchsize"] = 3
    with pytest.raises(InputError, match=r"^config.batchsize: .*did you mean 'batch_size'\?$"):
        schema.parse(fields)


def test_several_problems_are_counted_in_the_error(config):
    fields = config.to_dict()
    fields["batch_size"], fields["kd"]["weight"], fields["seeds"] = 0, 2.0, 1
    with pytest.raises(InputError, match=r"^config.batch_size: expected .*, got 0 \(and 2 more\)$"):
        schema.parse(fields)


def test_missing_fields_have_their_default_values(config):
    fields = config.to_dict()
    fields["student"]["epochs"] = 17
    del fields["seed"], fields["kd"], fields["student"]["optimizer"]["momentum"]
    parsed = schema.parse(fields)
    assert (parsed.seed, parsed.student.epochs) == (0, 17)
    assert parsed.kd == kd.Config()
    assert parsed.student.optimizer.momentum == 0.9
    assert parsed.student.optimizer.learning_rate == config.student.optimizer.learning_rate
    assert schema.parse({}) == schema.default()


def test_unknown_method_is_named_in_the_error(config):
    config.method = "akd"
    with pytest.raises(InputError, match=r"one of scratch, kd, takd, .*, got 'akd'"):
        make_plan(config)


def test_an_integer_is_accepted_for_a_float(config):
    fields = config.to_dict()
    fields["kd"]["temperature"] = 4
    assert schema.parse(config_dict.ConfigDict(fields)).kd.temperature == 4.0


def test_a_section_is_found_by_its_class():
    settings = schema.parse({"kd": {"temperature": 7.0}})
    assert settings.section(kd.Config) == settings.kd == kd.Config(temperature=7.0)
    with pytest.raises(KeyError, match=r"no section .*\.RunSettings"):
        settings.section(RunSettings)


@pytest.mark.parametrize(
    ("method", "sections"),
    [
        ("scratch", set()),
        ("kd", {"kd"}),
        ("takd", {"takd", "kd"}),
        ("annealing_kd", {"annealing_kd"}),
        ("continuation_kd", {"continuation_kd", "annealing_kd"}),
    ],
)
def test_only_the_sections_that_a_method_reads_count(method, sections):
    settings = schema.parse({"method": method})
    read = schema.method_sections(settings)
    assert read == {name: getattr(settings, name) for name in sections}
    key = resume_key(settings, Task.numbered(2), {})
    assert key.keys() & methods.METHODS.keys() == sections


def test_a_new_method_adds_its_section(monkeypatch):
    class Config(Section):
        strength: float = 0.5

    spec = MethodSpec(methods.METHODS["scratch"].build, Config, reads=("kd",))
    monkeypatch.setitem(methods.METHODS, "mine", spec)
    settings = schema.parse({"method": "mine", "mine": {"strength": 2.0}})
    assert settings.section(Config).strength == 2.0
    assert schema.method_sections(settings).keys() == {"mine", "kd"}
    assert default.get_config().mine.strength == 0.5
    with pytest.raises(InputError, match=r"^config.mine.strenth: .*did you mean 'strength'\?$"):
        schema.parse({"mine": {"strenth": 1.0}})


def test_set_optimizers_changes_all_networks_and_stages():
    config = default.get_config()
    default.set_optimizers(config, learning_rate=0.125)
    parsed = schema.parse(config)
    optimizers = [section for section in _instances(parsed) if isinstance(section, OptimizerConfig)]
    # Teacher, student, assistant, stage I, Continuation-KD, interpolation and three pretrainings of
    # speech.
    assert len(optimizers) == 10
    assert {optimizer.learning_rate for optimizer in optimizers} == {0.125}


def _instances(section):
    yield section
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from _instances(value)


def test_every_field_has_a_description():
    sections = {type(section) for section in _instances(schema.default())}
    assert {OptimizerConfig, kd.Config} < sections
    for section in sections:
        for name, field in section.model_fields.items():
            assert (field.description or "").endswith("."), f"{section.__name__}.{name}"
