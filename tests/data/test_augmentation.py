import functools

import jax
import numpy as np
import pytest

from akd_jax.data.augmentation import Augmentation
from akd_jax.types import Batch, Clock

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(1, 256, (6, 8, 7, 3)).astype(np.uint8)  # Without zeros, which are padding.


def batch(ids, views):
    ids = np.int32(ids)
    views = np.broadcast_to(np.int32(views), ids.shape)
    count = len(ids)
    return Batch(
        IMAGES[ids], np.zeros(count, np.int32), np.ones(count, np.float32), ids=ids, views=views
    )


def draw(augmentation, ids, views):
    return np.asarray(compiled(augmentation)(batch(ids, views)).inputs)


def draw_many(augmentation, count):
    """Draws `count` views of every image in one call, [count, images, H, W, channels]."""
    ids, views = np.tile(range(len(IMAGES)), count), np.repeat(range(count), len(IMAGES))
    return draw(augmentation, ids, views).reshape(count, *IMAGES.shape)


@functools.cache
def compiled(augmentation):
    return jax.jit(augmentation.view)


def candidates(image, padding, flip):
    """All possible views of an image, computed with NumPy."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    height, width, _ = image.shape
    crops = [
        padded[row : row + height, column : column + width]
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
    ]
    return crops + [crop[:, ::-1] for crop in crops] * flip


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (4, False), (0, True)])
def test_view_is_crop_of_padded_image_or_its_mirror_image(padding, flip):
    views = draw_many(Augmentation(padding, flip, seed=0), 40)
    for number, image in enumerate(IMAGES):
        possible = {view.tobytes() for view in candidates(image, padding, flip)}
        drawn = {np.ascontiguousarray(view[number]).tobytes() for view in views}
        assert drawn <= possible
        assert len(drawn) > 0.4 * min(len(possible), 40)


def test_view_depends_only_on_seed_example_and_number():
    augmentation = Augmentation(4, True, seed=0)
    views = draw(augmentation, [0, 1, 2, 3], 5)
    reordered = draw(augmentation, [3, 5, 1, 4], 5)
    np.testing.assert_array_equal(reordered[0], views[3])
    np.testing.assert_array_equal(reordered[2], views[1])
    np.testing.assert_array_equal(draw(augmentation, [0, 1, 2, 3], 5), views)
    assert (draw(augmentation, [0, 1, 2, 3], 6) != views).any()
    assert (draw(Augmentation(4, True, seed=1), [0, 1, 2, 3], 5) != views).any()


def test_examples_of_a_batch_are_cropped_at_different_offsets():
    identical = batch(range(4), 0).replace(inputs=np.broadcast_to(IMAGES[:1], (4, 8, 7, 3)))
    views = np.asarray(compiled(Augmentation(4, True, seed=0))(identical).inputs)
    assert len({view.tobytes() for view in views}) > 2


def test_half_of_the_views_are_mirrored():
    mirrored = (draw_many(Augmentation(0, True, seed=0), 100) != IMAGES).any(axis=(2, 3, 4))
    assert 0.42 < np.mean(mirrored) < 0.58  # Four standard deviations of 600 fair flips.


def test_without_crop_and_flip_the_batch_is_unchanged():
    original = batch(range(6), 3)
    augmentation = Augmentation(0, False, seed=0)
    assert augmentation.view(original) is original
    assert not augmentation.active


def test_step_prepares_its_batch_with_the_views_whatever_its_key():
    augmentation, original = Augmentation(2, True, seed=0), batch(range(6), 3)
    assert augmentation.active
    expected = compiled(augmentation)(original)
    prepare = jax.jit(lambda batch, key: augmentation(None, {}, batch, Clock.at(), key))
    for seed in range(2):
        prepared = prepare(original, jax.random.key(seed))
        jax.tree.map(np.testing.assert_array_equal, prepared, expected)
