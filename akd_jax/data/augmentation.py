"""Random crops and flips on the device, which can be drawn again exactly."""

import dataclasses

import dm_pix
import jax
import jax.numpy as jnp

from akd_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Draws a view of each image of a batch: a random crop, and perhaps its mirror image.

    The randomness of a view is a function of (seed, example id, view number) alone. Whoever
    draws it, and with whatever other examples in the batch, gets the same pixels: so a
    teacher's outputs for a view can be stored and met again.

    Attributes:
      crop_padding: zeros (of the raw image) added on each side before a crop of the original
        size; 0 does not crop.
      flip: whether every other view, at random, is mirrored left to right.
      seed: of all views.
    """

    crop_padding: int
    flip: bool
    seed: int

    def __call__(self, batch: Batch) -> Batch:
        """The batch with its views in place of its images [B, H, W, channels]."""
        if not self.crop_padding and not self.flip:
            return batch
        assert batch.ids is not None, "expected a batch that knows its examples"
        assert batch.views is not None, "expected a batch that knows its views"
        ids, views = jnp.asarray(batch.ids), jnp.asarray(batch.views)
        # Not the process's default generator: views must be the same in every process.
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
