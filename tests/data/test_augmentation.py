import functools

import jax
import numpy as np
import pytest

from akd_jax.data.augmentation import Augmentation
from akd_jax.types import Batch

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(1, 256, (6, 8, 7, 3)).astype(np.uint8)  # No zeros: those are padding.


def batch(ids, views):
    ids = np.int32(ids)
    views = np.broadcast_to(np.int32(views), ids.shape)
    count = len(ids)
    return Batch(
        IMAGES[ids], np.zeros(count, np.int32), np.ones(count, np.float32), ids=ids, views=views
    )


def draw(augmentation, ids, views):
    return np.asarray(compiled(augmentation)(batch(ids, views)).inputs)


@functools.cache
def compiled(augmentation):
    return jax.jit(augmentation)


def candidates(image, padding, flip):
    """Every view that there can be, by NumPy."""
    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
    height, width, _ = image.shape
    crops = [
        padded[row : row + height, column : column + width]
        for row in range(2 * padding + 1)
        for column in range(2 * padding + 1)
    ]
    return crops + [crop[:, ::-1] for crop in crops] * flip


@pytest.mark.parametrize(("padding", "flip"), [(2, True), (4, False), (0, True)])
def test_a_view_is_a_crop_of_the_padded_image_or_its_mirror_image(padding, flip):
    views = [draw(Augmentation(padding, flip, seed=0), range(6), view) for view in range(40)]
    for number, image in enumerate(IMAGES):
        possible = {view.tobytes() for view in candidates(image, padding, flip)}
        drawn = {np.ascontiguousarray(view[number]).tobytes() for view in views}
        assert drawn <= possible
        assert len(drawn) > 0.4 * min(len(possible), 40)


def test_a_view_depends_on_seed_example_and_number_alone():
    augmentation = Augmentation(4, True, seed=0)
    whole = draw(augmentation, [0, 1, 2, 3], 5)
    other = draw(augmentation, [3, 5, 1], 5)  # Other company, other places.
    np.testing.assert_array_equal(other[0], whole[3])
    np.testing.assert_array_equal(other[2], whole[1])
    np.testing.assert_array_equal(draw(augmentation, [0, 1, 2, 3], 5), whole)
    assert (draw(augmentation, [0, 1, 2, 3], 6) != whole).any()
    assert (draw(Augmentation(4, True, seed=1), [0, 1, 2, 3], 5) != whole).any()


def test_the_same_offsets_are_not_drawn_for_all_examples():
    same = np.broadcast_to(IMAGES[:1], IMAGES.shape)
    given = batch(range(6), 0).replace(inputs=same)
    views = np.asarray(Augmentation(4, True, seed=0)(given).inputs)
    assert len({view.tobytes() for view in views}) > 3


def test_half_of_the_views_are_mirrored():
    mirrored = [
        (draw(Augmentation(0, True, seed=0), range(6), view) != IMAGES).any(axis=(1, 2, 3))
        for view in range(100)
    ]
    assert 0.42 < np.mean(mirrored) < 0.58  # Four standard deviations of 600 fair flips.


def test_without_crop_and_flip_nothing_changes():
    given = batch(range(6), 3)
    assert Augmentation(0, False, seed=0)(given) is given
