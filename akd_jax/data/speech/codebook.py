"""Codebooks: the centres of k-means clusters, whose numbers are the codes of speech."""

import dataclasses
import io
import json
from zipfile import BadZipFile

import numpy as np

from akd_jax.data.speech.features import FeatureSettings
from akd_jax.data.speech.recordings import EXTRA
from akd_jax.host.errors import InputError, require
from akd_jax.host.files import Path, is_remote, not_writable

_SEED = 0
_BATCH = 4_096
# What NumPy and json raise for files that are no codebook.
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, BadZipFile)


@dataclasses.dataclass(frozen=True)
class Codebook:
    """The centres of the codes.

    Attributes:
      centres: float32 [K, D], K codes with D features each.
      settings: the settings of the features.
    """

    centres: np.ndarray
    settings: FeatureSettings

    def __len__(self) -> int:
        return len(self.centres)

    @classmethod
    def fit(cls, features: np.ndarray, codes: int, settings: FeatureSettings) -> "Codebook":
        """Returns the codebook of K codes that k-means finds, from a fixed seed.

        Args:
          features: those of many codes, float32 [N, D], see `features.code_features`.
          codes: K.
          settings: the settings of the features.

        Raises:
          InputError: there are fewer features than codes, or scikit-learn is not installed.
        """
        cluster = require("sklearn.cluster", EXTRA)
        if len(features) < codes:
            raise InputError(
                f"expected recordings of at least {codes} codes to fit a codebook of {codes}, got"
                f" {len(features)}; add recordings, or make a smaller codebook"
            )
        kmeans = cluster.MiniBatchKMeans(
            codes, batch_size=_BATCH, n_init=1, max_iter=30, random_state=_SEED
        )
        kmeans.fit(features)
        return cls(kmeans.cluster_centers_.astype(np.float32), settings)

    def encode(self, features: np.ndarray) -> np.ndarray:
        """Returns the code of each row: argmin_k ||features[t] - centres[k]||^2, int32 [T].

        Args:
          features: float32 [T, D].
        """
        # In float64, so that rounding hardly ever decides between two centres.
        centres = self.centres.astype(np.float64)
        distances = (centres**2).sum(axis=1) - 2 * features.astype(np.float64) @ centres.T
        return distances.argmin(axis=1).astype(np.int32)

    def save(self, path: Path) -> None:
        """Writes an .npz file with the arrays `centres` and `settings` (JSON), in one step.

        Raises:
          InputError: the file cannot be written.
        """
        content = io.BytesIO()
        settings = json.dumps(dataclasses.asdict(self.settings))
        np.savez(content, centres=self.centres, settings=np.array(settings))
        partial = path if is_remote(path) else path.with_suffix(".part")
        try:
            partial.write_bytes(content.getvalue())
            if partial != path:
                partial.replace(path)
        except OSError as error:
            raise not_writable(path.parent, error) from None


def load(path: Path) -> Codebook:
    """Reads a codebook.

    Raises:
      InputError: the file is missing or holds no codebook.
    """
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            centres = np.asarray(arrays["centres"], np.float32)
            settings = FeatureSettings(**json.loads(arrays["settings"].item()))
        if centres.shape != (len(centres), settings.width) or not np.isfinite(centres).all():
            raise ValueError(f"its centres {list(centres.shape)} do not fit its settings")
    except _UNREADABLE as error:
        raise InputError(
            f"{path}: expected a codebook of experiments.prepare, got another file: {error};"
            " restore it, or delete it together with codes.tsv and prepare the data set again"
        ) from None
    return Codebook(centres, settings)


def check_settings(codebook: Codebook, settings: FeatureSettings, path: Path) -> None:
    """Checks that a codebook was made from features with these settings.

    Args:
      codebook: the codebook.
      settings: the wanted settings.
      path: path of the codebook, for the message.

    Raises:
      InputError: the settings differ; the message names the first difference.
    """
    wanted = dataclasses.asdict(settings)
    for name, value in dataclasses.asdict(codebook.settings).items():
        if value != wanted[name]:
            raise InputError(
                f"{path}: expected a codebook of features with {name}={wanted[name]}, got {value};"
                f" give {name}={value}, or delete the file and codes.tsv to make new codes"
            )
