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
      views: the views that were drawn in each epoch, by epoch.
      batches: the ids of each device's share of each batch, in the order of execution.
      stop_after: sends SIGTERM to this process when this many more shares were trained on.
    """

    def __init__(self):
        self._lock = threading.Lock()  # Each device runs its callbacks in a thread.
        self.clear()

    def clear(self):
        self.examples = collections.Counter()
        self.views = collections.defaultdict(set)
        self.batches = []
        self.stop_after = None

    def in_stage(self, first_epoch):
        """Returns the loss of a stage, which counts its epochs from `first_epoch`."""
        return functools.partial(self._loss, first_epoch)

    def _loss(self, first_epoch, student, teachers, batch, clock):
        epoch = first_epoch + clock.epoch
        jax.debug.callback(self._record, epoch, batch.views, batch.ids, batch.weights)
        return supervised_loss(student, teachers, batch, clock)

    def _record(self, epoch, views, ids, weights):
        epoch = int(epoch)
        real = [int(i) for i, weight in zip(ids, weights, strict=True) if weight > 0]
        with self._lock:
            self.examples.update((epoch, i) for i in real)
            self.views[epoch].update(int(view) for view in views)
            self.batches.append((epoch, real))
            if self.stop_after is not None:
                self.stop_after -= 1
                if self.stop_after == 0:
                    os.kill(os.getpid(), signal.SIGTERM)
