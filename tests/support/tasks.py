"""The files of a prepared stream of tasks."""

from akd_jax.data.readers import streams, tsv

SIZES = {"test": 4, "dev": 3, "train": 20}  # Of the splits of each task.


def answers_by_question(folder, task):
    """The answers of all splits of a task; the splits have the SIZES and share no question."""
    rows = [
        row
        for split in SIZES
        for row in tsv.read(folder / task / f"{split}.tsv", streams.COLUMNS).rows.values()
    ]
    assert len({row[0] for row in rows}) == len(rows) == sum(SIZES.values())
    return {row[0]: row[2] for row in rows}
