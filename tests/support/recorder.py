"""A loss that records what a run trains on."""

import collections
import functools
import os
import signal
import threading

import jax

from akd_jax.methods.scratch import supervised_loss


class RecordingLoss:
    """Cross-entropy that records the examples of every executed step.

    Attributes:
      examples: how often each (epoch, example id) was trained on.
      labels: the label of each (epoch, example id).
      views: the views that were drawn in each epoch, by epoch.
      batches: the ids of each device's share of each batch, in the order of execution.
      stop_after: sends SIGTERM to this process when this many more shares were trained on.
    """

    def __init__(self):
        self._lock = threading.Lock()  # Each device runs its callbacks in a thread.
        self.clear()

    def clear(self):
        self.examples = collections.Counter()
        self.labels = {}
        self.views = collections.defaultdict(set)
        self.batches = []
        self.stop_after = None

    def in_stage(self, first_epoch):
        """Returns the loss of a stage, which counts its epochs from `first_epoch`."""
        return functools.partial(self._loss, first_epoch)

    def _loss(self, first_epoch, student, teachers, batch, clock):
        epoch = first_epoch + clock.epoch
        jax.debug.callback(self._record, epoch, batch)
        return supervised_loss(student, teachers, batch, clock)

    def _record(self, epoch, batch):
        epoch = int(epoch)
        real = batch.ids[batch.weights > 0].tolist()
        labels = batch.labels[batch.weights > 0].tolist()
        with self._lock:
            self.examples.update((epoch, i) for i in real)
            self.labels.update(((epoch, i), label) for i, label in zip(real, labels, strict=True))
            self.views[epoch].update(batch.views.tolist())
            self.batches.append((epoch, real))
            if self.stop_after is not None:
                self.stop_after -= 1
                if self.stop_after == 0:
                    os.kill(os.getpid(), signal.SIGTERM)
