"""Pretrained or fine-tuned weights, read from a Hugging Face folder."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from absl import logging
from flax import traverse_util

from akd_jax.host.errors import InputError
from akd_jax.models.huggingface import names
from akd_jax.models.huggingface.folder import CONFIG, WEIGHTS, Folder, open_weights
from akd_jax.models.huggingface.names import ParameterPath
from akd_jax.types import Task, Variables

_CLASS = "AutoModelForSequenceClassification"


@dataclasses.dataclass(frozen=True)
class Weights:
    """The weights of a folder: the initial weights of a student, or those of a teacher.

    The outputs of the head are matched to the labels of the task by name.

    Attributes:
      folder: the folder with the weights.
      task: the task of the network.
      fine_tuned: whether the folder must have a head for the task. If False, a head that is
        missing or has other labels is initialised at random.
    """

    folder: Folder
    task: Task
    fine_tuned: bool = False

    def __call__(self, shapes: Variables) -> dict[ParameterPath, np.ndarray]:
        """Reads the variables that the folder contains, as float32 arrays by path.

        Args:
          shapes: the variables of the network, or their shapes.

        Raises:
          InputError: see `match`.
        """
        tensors = self.match(shapes)
        if "classifier" in shapes["params"]:
            self._log_head(("classifier", "kernel") in tensors)
        order = _label_order(self.folder.labels(), self.task.labels)
        rows = order or list(range(self.task.outputs))
        variables = {}
        with open_weights(self.folder, _CLASS) as file:
            stored_names = _stored_names(file)
            for path, name in tensors.items():
                value = file.get_tensor(stored_names[name]).astype(np.float32)
                value = value[rows] if path[0] == "classifier" else value
                variables["params", *path] = np.ascontiguousarray(names.convert_kernel(path, value))
        return variables

    def match(self, shapes: Variables) -> dict[ParameterPath, str]:
        """Returns the tensor name of each parameter that the folder contains; reads no values.

        Args:
          shapes: the variables of the network, or their shapes.

        Raises:
          InputError: tensors are missing, unknown or have other shapes; or `fine_tuned` is True
            and the head does not fit the task.
        """
        family = self.folder.family
        with open_weights(self.folder, _CLASS) as file:
            stored = {
                name: tuple(file.get_slice(stored_name).get_shape())
                for name, stored_name in _stored_names(file).items()
            }
        params = traverse_util.flatten_dict(dict(shapes["params"]))
        # Files of an encoder without a head have no prefix.
        prefix = "" if "embeddings.word_embeddings.weight" in stored else family.prefix
        modules = names.module_names(family, self.folder.layers, prefix)
        head = ("classifier",) if family.pretrained_pooler else ("pooler", "classifier")
        new = () if self._head_fits(stored) else head
        tensors = {path: names.tensor_name(modules, path) for path in params if path[0] not in new}
        if not self.fine_tuned:  # BERTs for other uses may lack the pooler.
            tensors = {k: v for k, v in tensors.items() if k[0] != "pooler" or v in stored}
        all_modules = names.module_names(family, self.folder.all_layers, prefix)
        self._check(tensors, params, stored, names.unknown_tensors(list(stored), all_modules))
        return tensors

    def _check(
        self,
        tensors: Mapping[ParameterPath, str],
        params: Mapping[ParameterPath, Any],
        stored: Mapping[str, tuple[int, ...]],
        unknown: Sequence[str],
    ) -> None:
        """Raises InputError unless the file contains exactly the expected tensors."""
        missing = [name for name in tensors.values() if name not in stored]
        expected = {
            name: names.torch_shape(path, params[path].shape) for path, name in tensors.items()
        }
        reshaped = [
            f"{name} {list(stored[name])} instead of {list(shape)}"
            for name, shape in expected.items()
            if name in stored and stored[name] != shape
        ]
        for problem, examples in (
            ("missing tensors", missing),
            ("tensors of other shapes", reshaped),
            ("unknown tensors", unknown),
        ):
            if examples:
                more = f" and {len(examples) - 3} more" if len(examples) > 3 else ""
                raise InputError(
                    f"{self.folder.path / WEIGHTS}: expected the tensors that {CONFIG} describes,"
                    f" got {problem}: {', '.join(examples[:3])}{more}; take both files from the"
                    " same model"
                )

    def _log_head(self, reads_head: bool) -> None:
        path, labels = self.folder.path, self.task.labels
        if reads_head and labels and not self.folder.labels():
            logging.warning(
                "%s: the outputs have no label names; assuming the order %s",
                path,
                ", ".join(labels),
            )
        elif not reads_head:
            logging.info(
                "%s: the folder has no head for this task; the head starts from random weights",
                path,
            )

    def _head_fits(self, stored: Mapping[str, Sequence[int]]) -> bool:
        """Returns whether the folder has a head for the task.

        Raises:
          InputError: it has none, and `fine_tuned` is True.
        """
        path, task = self.folder.path, self.task
        name = f"{self.folder.family.classifier}.weight"
        if name not in stored and self.fine_tuned:
            raise InputError(
                f"{path}: expected a fine-tuned model with a head, got no {name}; to fine-tune this"
                f" model, leave the path empty and set the model to huggingface:{path}"
            )
        if name not in stored:
            return False
        outputs, labels = stored[name][0], self.folder.labels()
        fits = outputs == task.outputs
        if fits and not task.regression:
            fits = _label_order(labels, task.labels) is not None or (self.fine_tuned and not labels)
        if not fits and self.fine_tuned:
            expected = f"the labels {', '.join(task.labels)}" if task.labels else "a regression"
            got = "one for a regression" if outputs == 1 else f"{', '.join(labels) or outputs}"
            raise InputError(
                f"{path}: expected a head for {expected}, got {got}; use a model that was"
                f" fine-tuned on this task, or correct the names in id2label of its {CONFIG}"
            )
        return fits


def _label_order(names: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Returns the index of each wanted label in `names`, or None if the labels differ.

    The comparison ignores case, unless two names differ only in case.
    """
    if not names or len(names) != len(wanted):
        return None
    for normalise in (str, str.lower):
        normalised = [normalise(name) for name in names]
        unique = len(set(normalised)) == len(normalised)
        if unique and {normalise(name) for name in wanted} == set(normalised):
            return [normalised.index(normalise(name)) for name in wanted]
    return None


def _stored_names(file: Any) -> dict[str, str]:
    """Returns the name of each tensor in an open file, by its current name."""
    return {names.current_name(name): name for name in list(file.keys())}
