"""Random crops and flips of images on the device, reproducible per example and view."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from pydantic import Field

from akd_jax.host.errors import require
from akd_jax.host.settings import NonNegativeInt, Section
from akd_jax.types import Batch, Clock


class ImageOptions(Section):
    """The augmentation of images."""

    crop_padding: NonNegativeInt = Field(
        default=0,
        description="Pixels of padding around an image before a random crop; 0 turns crops off.",
    )
    flip: bool = Field(
        default=False, description="Whether images are flipped horizontally at random."
    )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Draws one view of each image of a batch: a random crop and a random horizontal flip.

    A view depends only on (seed, example id, view number). The other examples of the batch and
    the process that draws the view make no difference. A teacher's outputs for a view can
    therefore be stored and used again.

    Attributes:
      crop_padding: pixels of zeros added on each side before the image is cropped to its
        original size; 0 disables cropping. The zeros are in the units of the raw image.
      flip: whether each view is mirrored left to right with probability 1/2.
      seed: seed of all views.

    Raises:
      InputError: the package dm-pix is not installed, and cropping or flipping is enabled.
    """

    crop_padding: int
    flip: bool
    seed: int

    @property
    def active(self) -> bool:
        """Whether views differ from the images."""
        return bool(self.crop_padding or self.flip)

    def __call__(
        self, student: Any, teachers: Any, batch: Batch, clock: Clock, key: jax.Array
    ) -> Batch:
        """Returns the batch of views, as the `Prepare` of a training step."""
        del student, teachers, clock, key  # A view depends on its own number.
        return self.view(batch)

    def view(self, batch: Batch) -> Batch:
        """Returns the batch with each image of [B, H, W, channels] replaced by its view."""
        if not self.active:
            return batch
        dm_pix = require("dm_pix", "images")
        assert batch.ids is not None, "expected a batch with example ids"
        assert batch.views is not None, "expected a batch with view numbers"
        ids, views = jnp.asarray(batch.ids), jnp.asarray(batch.views)
        # The key names its generator, so that jax_default_prng_impl cannot change the views.
        base = jax.random.key(self.seed, impl="threefry2x32")

        def draw(image: jax.Array, example: jax.Array, view: jax.Array) -> jax.Array:
            key = jax.random.fold_in(jax.random.fold_in(base, example), view)
            crop_key, flip_key = jax.random.split(key)
            if self.crop_padding:
                margin = (self.crop_padding, self.crop_padding)
                padded = jnp.pad(image, (margin, margin, (0, 0)))
                image = dm_pix.random_crop(crop_key, padded, image.shape)
            return dm_pix.random_flip_left_right(flip_key, image) if self.flip else image

        return batch.replace(inputs=jax.vmap(draw)(jnp.asarray(batch.inputs), ids, views))
