import re
import subprocess
import sys
import tomllib

import akd_jax
from tests.support.launching import GUARD_SECONDS, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def bounds(requirements):
    """Package name and extras to its lower bound, from lines such as 'etils[epath]>=1.12'."""
    pairs = [re.fullmatch(r"([\w.-]+)(?:\[([\w,-]+)\])?>=([\d.]+)", line) for line in requirements]
    assert all(pairs), requirements
    return {(match[1], match[2] or ""): match[3] for match in pairs}


def lines(name):
    text = (ROOT / name).read_text()
    stripped = [line.split("#")[0].strip() for line in text.splitlines()]
    return [line for line in stripped if line and not line.startswith("-")]


def test_requirements_file_equals_the_dependencies_with_all_extras():
    extras = PROJECT["optional-dependencies"]
    assert set(extras["all"][0].removeprefix("akd_jax[").removesuffix("]").split(",")) == {
        name for name in extras if name != "all"
    }
    declared = bounds(
        [*PROJECT["dependencies"], *(x for name in extras if name != "all" for x in extras[name])]
    )
    assert declared.pop(("etils", "epath")) == declared.pop(("etils", "epath-gcs"))
    required = bounds(lines("requirements.txt"))
    required.pop(("etils", "epath,epath-gcs"))
    assert required == declared


def test_public_names_exist_and_importing_them_is_lazy():
    for name in akd_jax.__all__:
        assert getattr(akd_jax, name) is not None, name
    check = "import sys, akd_jax; assert 'orbax.checkpoint' not in sys.modules; akd_jax.run"
    subprocess.run([sys.executable, "-c", check], cwd=ROOT, check=True, timeout=GUARD_SECONDS)


def test_changelog_and_citation_have_the_current_version():
    assert f"## {akd_jax.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    assert f"version: {akd_jax.__version__}\n" in (ROOT / "CITATION.cff").read_text()
