"""Every loss that the method compose can name, on networks that have what it reads."""

import re

import pytest

from akd_jax.host.errors import InputError
from akd_jax.methods import compose
from akd_jax.methods.terms import TERMS
from akd_jax.runs import config as schema
from akd_jax.runs import make_plan
from akd_jax.types import Task
from tests.support.configs import small_config
from tests.support.launching import ROOT

OF_ENCODERS = {
    "hidden_states",
    "attention_mse",
    "attention_kl",
    "cosine",
    "pkd",
    "minilm",
    "minilm_v2",
}
# What a term needs besides its weight.
NEEDS = {
    "crd": {"examples": 1297},
    "minilm_v2": {"relation_heads": 4},
}


def with_term(config, name, **fields):
    config.method = "compose"
    config.compose.supervised.weight = 0.0 if name == "label_smoothing" else 1.0
    config.compose[name].update({"weight": 0.5, **NEEDS.get(name, {}), **fields})
    return config


def image_config():
    config = small_config()
    config.student.model, config.teacher.model = "resnet:8", "resnet:14"
    return config


@pytest.mark.parametrize("name", [name for name in TERMS if name not in OF_ENCODERS])
def test_term_of_images_fits_two_residual_networks(name):
    plan = make_plan(with_term(image_config(), name))
    (stage,) = plan.method.stages
    assert stage.teachers == (("teacher",) if TERMS[name].reads_teacher else ())


@pytest.mark.parametrize("name", sorted(OF_ENCODERS))
def test_term_of_texts_fits_two_encoders(name, texts_config):
    texts_config.teacher.views = 0
    (stage,) = make_plan(with_term(texts_config, name)).method.stages
    assert stage.teachers == ("teacher",)


@pytest.mark.parametrize("name", [name for name, spec in TERMS.items() if spec.of_classes])
def test_a_term_of_classes_is_refused_in_a_regression(name):
    settings = schema.parse(with_term(image_config(), name))
    with pytest.raises(InputError, match=rf"compose\.{name}\.weight: expected 0 in a regression"):
        compose.build(settings, Task(()))


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("kl", {"temperature": 0.0}, "temperature: expected finite values greater than 0, got 0.0"),
        ("generalized_jsd", {"beta": 1.5}, "beta: expected values from 0 to 1, got 1.5"),
        ("top_k_kl", {"tail": "uniform"}, "tail: expected 'bin', 'drop' or 'renormalise', got 'un"),
        ("hint", {"layers": "group_9"}, "expected the name of a teacher or of a feature, got 'gro"),
        ("fsp", {"layers": "group_1"}, "layers"),
        ("crd", {"examples": 0}, "examples"),
        ("mgd", {"rate": 1.0}, "rate"),
    ],
)
def test_wrong_options_are_refused_in_one_line(name, fields, message):
    with pytest.raises(InputError, match=re.escape(message)) as error:
        make_plan(with_term(image_config(), name, **fields))
    assert "\n" not in str(error.value)


def test_page_lists_every_term_and_its_weight():
    page = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    missing = [name for name in TERMS if f"`{name}`" not in page]
    assert missing == []


def test_descriptions_of_options_are_sentences():
    section = type(schema.default().compose)
    for name, term in section.model_fields.items():
        for option, field in term.annotation.model_fields.items():
            assert re.fullmatch(r"[A-Z'0-9].*[^.]\.", field.description), (name, option)
