"""A loss that records what a run trains on."""

import collections
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
      traces: how often JAX traced the loss.
      stop_after: sends SIGTERM to this process when this many more shares were trained on.
    """

    def __init__(self):
        self.traces = 0
        self._lock = threading.Lock()  # Each device runs its callbacks in a thread.
        self.clear()

    def clear(self):
        self.examples = collections.Counter()
        self.views = collections.defaultdict(set)
        self.batches = []
        self.stop_after = None

    def __call__(self, student, teachers, batch, temperature_step):
        self.traces += 1
        jax.debug.callback(self._record, batch.epochs, batch.views, batch.ids, batch.weights)
        return supervised_loss(student, teachers, batch, temperature_step)

    def _record(self, epochs, views, ids, weights):
        epoch = int(epochs[0])
        real = [int(i) for i, weight in zip(ids, weights, strict=True) if weight > 0]
        with self._lock:
            self.examples.update((epoch, i) for i in real)
            self.views[epoch].update(int(view) for view in views)
            self.batches.append((epoch, real))
            if self.stop_after is not None:
                self.stop_after -= 1
                if self.stop_after == 0:
                    os.kill(os.getpid(), signal.SIGTERM)
