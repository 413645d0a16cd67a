import collections
import re

import jax.numpy as jnp
import numpy as np
import pytest

from akd_jax import losses
from akd_jax.types import Batch, Clock, Outputs
from tests.support.launching import ROOT
from tests.support.pages import SHORTER, code_of, run_code

README = (ROOT / "README.md").read_text(encoding="utf-8")
QUICKSTART, COMPOSED, CUSTOM_LOSS, CUSTOM_METHOD = code_of(ROOT / "README.md")


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    """The output of the three examples, run in a new process and an empty folder."""
    folder = tmp_path_factory.mktemp("readme")
    code = "\n".join([SHORTER, QUICKSTART, CUSTOM_LOSS, CUSTOM_METHOD])
    return run_code(code, folder, PYTHONWARNINGS="error")


def test_quickstart_trains_predicts_and_evaluates(output):
    teacher, student = re.search(r"teacher ([\d.]+)%, student ([\d.]+)%", output).groups()
    assert float(teacher) > 60  # Guessing gives 10 %.
    assert float(student) > 15
    assert re.search(r"first predictions: \[(\d ){9}\d\]", output)
    assert re.search(r"validation: \{'accuracy': 0\.\d+\}", output)


def test_custom_loss_is_the_weighted_sum_of_its_terms(output):
    printed = re.findall(r"^ce (\S+) kd (\S+) loss (\S+)$", output, flags=re.MULTILINE)
    losses = [tuple(map(float, line)) for line in printed]
    assert len(losses) == 10
    for ce, kd, loss in losses:
        assert loss == pytest.approx(0.1 * ce + kd, abs=2e-4)  # They have four digits.
    assert losses[4][1] < losses[0][1]


def test_composed_losses_are_the_weighted_sum_of_their_terms():
    assert len([line for line in COMPOSED.splitlines() if line.strip()]) <= 8
    assert COMPOSED in (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")
    example = {}
    exec(COMPOSED, example)
    student, teacher = (
        Outputs(jnp.asarray(logits), {"pooled": jnp.asarray(logits[:, :3])})
        for logits in np.float32(np.random.default_rng(0).normal(size=(2, 6, 5)))
    )
    labels = np.arange(6, dtype=np.int32) % 5
    batch = Batch(np.zeros(6), labels, np.ones(6, np.float32))
    parts = {
        "ce": losses.cross_entropy(student.logits, labels),
        "kd": losses.kl(student.logits, teacher.logits, 4.0),
        "rkd": losses.rkd_distance(student.features["pooled"], teacher.features["pooled"]),
    }
    for epoch, kd, rkd in ((0, 0.5, 0.0), (5, None, 0.05), (60, 0.1, 0.1)):
        terms = example["loss"](student, {"teacher": teacher}, batch, Clock.at(epoch=epoch))
        weights = {name: float(term.scale) for name, term in terms.items()}
        expected = 0.1 + 0.4 * (1 + np.cos(np.pi * epoch / 60)) / 2 if kd is None else kd
        assert weights == pytest.approx({"ce": 1.0, "kd": expected, "rkd": rkd})
        for name, term in terms.items():
            np.testing.assert_allclose(term.values, parts[name], rtol=1e-6)


def test_custom_method_trains(output):
    (student,) = re.findall(r"^student ([\d.]+)%", output, flags=re.MULTILINE)
    assert float(student) > 15


def test_quickstart_has_at_most_12_lines_of_code():
    assert len([line for line in QUICKSTART.splitlines() if line.strip()]) <= 12


def anchors(document):
    """The anchors of a Markdown file's headings, as GitHub creates them."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    counts = collections.Counter()
    for heading in re.findall(r"^#+ +(.+?)[ #]*$", text, flags=re.MULTILINE):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)  # The text of a link.
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        yield f"{slug}-{counts[slug]}" if counts[slug] else slug
        counts[slug] += 1


def test_links_lead_to_files_and_headings():
    documents = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for document in documents:
        text = document.read_text(encoding="utf-8")
        for target, anchor in re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text):
            if "://" in target:
                continue
            path = document.parent / target if target else document
            assert path.exists(), f"{document}: {target}"
            if anchor:
                assert anchor in anchors(path), f"{document}: {target}#{anchor}"
