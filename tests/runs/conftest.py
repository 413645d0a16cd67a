"""Files of texts and small encoders, for runs on texts."""

from pathlib import Path

import pytest
from ml_collections.config_dict import ConfigDict

from tests.support.texts import text_config, write_folders


@pytest.fixture(scope="session")
def text_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Labelled texts, and encoders in 'bert', 'roberta' and so on. Tests must not change them."""
    root = tmp_path_factory.mktemp("texts")
    write_folders(root)
    return root


@pytest.fixture
def texts_config(text_folders: Path) -> ConfigDict:
    """The configuration of a small run on texts, which a test may change."""
    return text_config(text_folders)
