"""The predictions of a student on the test split, which a run leaves in its folder."""

import io
import zipfile

import numpy as np

from akd_jax.host import processes
from akd_jax.host.errors import InputError
from akd_jax.host.files import Path, absolute, not_writable, reason, replace_bytes
from akd_jax.training.texts import Texts

TEST_PREDICTIONS = "test_predictions.npz"


def save(folder: Path, predicted: np.ndarray | Texts) -> None:
    """Writes the predictions of the best student.

    Args:
      folder: the folder of the run.
      predicted: the logits, float32 [N, C], or the generated texts.

    Raises:
      InputError: the folder cannot be written.
    """
    if isinstance(predicted, Texts):
        arrays = {
            "texts": np.array(predicted.texts, str),
            "scores": predicted.scores,
            "without_end": predicted.without_end,
        }
    else:
        arrays = {"logits": predicted}

    def write() -> None:
        content = io.BytesIO()
        np.savez(content, allow_pickle=False, **arrays)
        try:
            replace_bytes(folder / TEST_PREDICTIONS, content.getvalue())
        except OSError as error:
            raise not_writable(folder, error) from None

    processes.on_primary(write)


def read_test_predictions(workdir: str | Path) -> np.ndarray | Texts | None:
    """Returns what a finished run's student predicted for the test split; computes nothing.

    Args:
      workdir: the folder of the run.

    Returns:
      The logits, float32 [N, C], or the greedy texts, in the order of the split; None if the run
      has left none.

    Raises:
      InputError: the file is damaged.
    """
    path = absolute(workdir) / TEST_PREDICTIONS
    if not path.exists():
        return None
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            if "logits" in arrays:
                return np.asarray(arrays["logits"])
            return Texts(arrays["texts"].tolist(), arrays["scores"], arrays["without_end"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: expected the predictions of a run, got {reason(error)}; delete the file"
        ) from None
