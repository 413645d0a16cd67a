"""The documentation: its site is built without a broken link, and its code runs."""

import subprocess
import sys

import pytest

from tests.support.launching import GUARD_SECONDS, ROOT
from tests.support.pages import SHORTER, code_of, run_code

PAGES = sorted((ROOT / "docs").glob("*.md"))
TRAINING = ("akd_jax.run(", "akd_jax.predict(")  # Calls that take long, or need a run.

# tests/experiments/test_predict_export.py and tests/runs/test_text.py run the code of exports.
BLOCKS = [(x.name, code) for x in PAGES if x.name != "export.md" for code in code_of(x)]
TRAINED = [(name, code) for name, code in BLOCKS if any(call in code for call in TRAINING)]


def test_the_site_has_no_broken_links_and_a_reference(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=GUARD_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        assert (tmp_path / f"{page.stem}.html").exists()
    reference = (tmp_path / "reference/losses.html").read_text(encoding="utf-8")
    for name in ("weighted_annealed_mse", "annealed_mse", "ReviewKD"):
        assert f'id="akd_jax.losses.{name}"' in reference


def test_the_code_of_the_pages_runs(tmp_path):
    codes = [code for _, code in BLOCKS if not any(call in code for call in TRAINING)]
    assert len(codes) >= 3
    output = run_code("\n".join(codes), tmp_path)
    assert "{'ce': (1.0, (8,)), 'kd': (0.55" in output
    assert "(5, 10)" in output


@pytest.mark.slow  # tests/test_readme.py trains the same in the quickstart and the custom method.
def test_the_code_of_the_pages_that_trains_runs(tmp_path):
    assert [name for name, _ in TRAINED] == ["customise.md", "index.md", "index.md"]
    output = run_code("\n".join([SHORTER, *(code for _, code in TRAINED)]), tmp_path)
    assert "student" in output
