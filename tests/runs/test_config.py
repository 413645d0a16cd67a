import pytest
from ml_collections import config_dict

from akd_jax import methods, models
from akd_jax.host.errors import InputError
from akd_jax.runs import config as schema
from configs import cifar10, cifar100, default, digits, fashion_mnist


@pytest.mark.parametrize(
    ("module", "argument"),
    [
        (default, None),
        (digits, "kd"),
        (cifar10, "takd"),
        (cifar10, "annealing_kd,plain_cnn"),
        (cifar100, "continuation_kd"),
        (fashion_mnist, "kd,plain_cnn"),
        (fashion_mnist, "takd,small"),
        (fashion_mnist, "small"),
    ],
)
def test_shipped_configs_are_valid_and_survive_a_round_trip(module, argument):
    config = module.get_config() if argument is None else module.get_config(argument)
    parsed = schema.parse(config)
    assert parsed.model_dump() == config.to_dict()
    assert schema.parse(parsed.model_dump()) == parsed
    for name in methods.METHODS:  # The epochs and temperatures fit every method.
        built = methods.build(parsed.model_copy(update={"method": name}))
        assert built.epochs == parsed.student.epochs
    models.build(parsed.student.model, 10)
    models.build(parsed.teacher.model, 10)
    models.build(parsed.takd.assistant.model, 10)


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
            "config.student.optimizer.name: expected 'sgd' or 'adamw', got 'sdg'",
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


def test_unknown_and_missing_fields_are_named_in_the_error(config):
    fields = config.to_dict()
    fields["student"]["epoch"] = 3
    with pytest.raises(InputError, match=r"^config.student.epoch: .*did you mean 'epochs'\?$"):
        schema.parse(fields)
    fields = config.to_dict()
    fields["batchsize"] = 3
    with pytest.raises(InputError, match=r"^config.batchsize: .*did you mean 'batch_size'\?$"):
        schema.parse(fields)
    fields = config.to_dict()
    del fields["student"]["epochs"], fields["seed"]
    with pytest.raises(InputError, match=r"^config.seed: missing; .*\(and 1 more\)$"):
        schema.parse(fields)


def test_an_integer_is_accepted_for_a_float(config):
    fields = config.to_dict()
    fields["kd"]["temperature"] = 4
    assert schema.parse(config_dict.ConfigDict(fields)).kd.temperature == 4.0


def _sections(section):
    yield section
    for field in section.model_fields.values():
        if isinstance(field.annotation, type) and issubclass(field.annotation, schema.Section):
            yield from _sections(field.annotation)


def test_every_field_has_a_description():
    sections = set(_sections(schema.RunConfig))
    assert schema.OptimizerConfig in sections
    for section in sections:
        for name, field in section.model_fields.items():
            assert (field.description or "").endswith("."), f"{section.__name__}.{name}"
