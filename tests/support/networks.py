"""A small network with features, for runs whose losses read them."""

import flax.linen as nn
import jax.numpy as jnp

from akd_jax import models
from akd_jax.types import Outputs


class FeaturedNetwork(nn.Module):
    """A network with one hidden layer.

    Its features are 'image' [B, H, W, channels], the input; and 'hidden' [B, width].
    """

    width: int
    num_classes: int
    dtype: str

    @nn.compact
    def __call__(self, images, *, train=False, axis_name=None):
        flat = images.astype(self.dtype).reshape(len(images), -1)
        hidden = nn.relu(nn.Dense(self.width, dtype=self.dtype)(flat))
        logits = nn.Dense(self.num_classes)(hidden.astype(jnp.float32))
        return Outputs(logits, {"image": images, "hidden": hidden})


def use_featured_networks(monkeypatch, config, *, teacher, student):
    """Makes student and teacher networks with features; the numbers are their widths."""

    def build(argument, num_classes, dtype):
        return FeaturedNetwork(int(argument), num_classes, dtype)

    monkeypatch.setitem(models.MODELS, "featured", build)
    config.teacher.model = f"featured:{teacher}"
    config.teacher.epochs = 1
    config.student.model = f"featured:{student}"
