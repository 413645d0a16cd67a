import gzip
import hashlib
import io
import types
import urllib.error

import numpy as np
import pytest

from akd_jax.data.readers import cifar, idx
from akd_jax.host.errors import InputError
from experiments.preparation import images, movie_reviews
from experiments.preparation.vader import ARCHIVE
from experiments.prepare import prepare_dataset
from tests.support import vader


@pytest.fixture
def network(monkeypatch):
    """A network without TensorFlow that serves `pages` and records the `requests`."""
    fake = types.SimpleNamespace(pages={}, requests=[])

    def urlopen(address, timeout):
        fake.requests.append(address)
        assert timeout is not None
        if address not in fake.pages:
            raise urllib.error.URLError("Name or service not known")
        return io.BytesIO(fake.pages[address])

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return fake


def idx_files():
    files = {}
    for count, names in ((6, idx.FILES["train"]), (3, idx.FILES["test"])):
        for name, shape in zip(names, ((count, 5, 5), (count,)), strict=True):
            header = bytes([0, 0, 8, len(shape)])
            header += b"".join(size.to_bytes(4, "big") for size in shape)
            files[f"{name}.gz"] = gzip.compress(header + bytes(int(np.prod(shape))))
    return files


def test_downloaded_files_are_not_downloaded_again(network, tmp_path):
    for name, content in idx_files().items():
        network.pages[images.FASHION_MNIST_URL + name] = content
    for _ in range(2):
        line = prepare_dataset("fashion_mnist", tmp_path / "new")
        assert line.startswith("fashion_mnist is ready in")
        assert "6 training and 3 test examples" in line
    assert len(network.requests) == 4


def test_error_without_a_network_names_the_file_and_its_folder(network, tmp_path):
    with pytest.raises(InputError) as error:
        prepare_dataset("cifar10", tmp_path)
    for part in ("kriz/cifar-10-binary.tar.gz", "Name or service not known", str(tmp_path)):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_incomplete_download_is_detected_by_its_checksum(network, tmp_path):
    network.pages[images.CIFAR_URL + "cifar-100-binary.tar.gz"] = b"half of it"
    with pytest.raises(InputError) as error:
        prepare_dataset("cifar100", tmp_path)
    assert cifar.ARCHIVES["cifar100"].md5 in str(error.value)
    assert hashlib.md5(b"half of it").hexdigest() in str(error.value)


def test_unknown_data_set_is_refused(network, tmp_path):
    with pytest.raises(
        InputError,
        match="one of cifar10, cifar100, fashion_mnist, movie_reviews, sentiment_domains,"
        " language_id,"
        " speech_commands_csv, spoken_intents, scored_pairs, mlqe_pe, mt_quality,"
        " libreoffice_de_en, parallel_text, summaries, stream, pronunciations, mixed_tasks,"
        " got 'mnist'",
    ):
        prepare_dataset("mnist", tmp_path)


def vader_archive(*rows):
    """A source archive with the given (rating, sentence) rows and 2,100 others."""
    others = ((2.0 if n % 2 else -2.0, f"sentence number {n} .") for n in range(2100))
    return vader.archive(tweets=[(1.0, "Not one of these .")], movieReviewSnippets=[*rows, *others])


def read_rows(folder):
    splits = {}
    for name in ("train", "dev", "test"):
        header, *rows = (folder / f"{name}.tsv").read_bytes().decode().split("\n")
        assert header == "sentence\tlabel"
        assert rows.pop() == ""
        splits[name] = [tuple(row.split("\t")) for row in rows]
    return splits


def prepared_labels(folder, *rows):
    """The labels of the given sentences in the written files."""
    movie_reviews.write_movie_reviews(vader_archive(*rows), folder)
    pairs = [pair for rows in read_rows(folder).values() for pair in rows]
    assert len(dict(pairs)) == len(pairs)
    return {text: label for text, label in pairs if not text.startswith("sentence number")}


@pytest.fixture
def pip_without_index(monkeypatch):
    """Makes pip fail, because it has no index to search."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)


def test_movie_reviews_are_split_at_random(tmp_path):
    movie_reviews.write_movie_reviews(vader_archive(), tmp_path)
    rows = read_rows(tmp_path)
    assert {name: len(part) for name, part in rows.items()} == {
        "train": 100,
        "dev": 1000,
        "test": 1000,
    }
    labels = dict(rows["train"] + rows["dev"] + rows["test"])
    assert labels == {f"sentence number {n} .": str(n % 2) for n in range(2100)}
    for part in rows.values():
        assert part not in (sorted(part), sorted(part)[::-1])
    assert max(rows["dev"]) > min(rows["test"])
    assert max(rows["test"]) > min(rows["dev"])


def test_prepared_movie_reviews_are_not_downloaded_again(pip_without_index, tmp_path):
    movie_reviews.write_movie_reviews(vader_archive(), tmp_path)
    line = prepare_dataset("movie_reviews", tmp_path)
    assert line.endswith("100 training and 1,000 test examples")


def test_movie_reviews_are_split_in_the_same_way_each_time(tmp_path):
    for name in ("one", "other"):
        movie_reviews.write_movie_reviews(vader_archive(), tmp_path / name)
    assert read_rows(tmp_path / "one") == read_rows(tmp_path / "other")


def test_sentences_with_ratings_near_zero_are_left_out(tmp_path):
    ratings = (0.5, -0.5, 0, 0.51, -0.51, 4, -4, "1e-1")
    labels = prepared_labels(tmp_path, *((rating, f"Rated {rating}") for rating in ratings))
    assert labels == {"Rated 0.51": "1", "Rated -0.51": "0", "Rated 4": "1", "Rated -4": "0"}


def test_sentences_are_cleaned(tmp_path):
    labels = prepared_labels(
        tmp_path,
        (2, "A na\xefve caf\xe9 .\r"),
        (2, "Fish &amp; &quot;chips&quot; &eacute;"),
        (2, "''quoted'' , it's said"),
        (2, "  much   white\xa0 space &#9; and&#10;lines "),
    )
    assert set(labels) == {
        "A naïve café .",
        'Fish & "chips" é',
        '"quoted" , it\'s said',
        "much white space and lines",
    }


def test_last_rating_of_a_repeated_sentence_is_kept(tmp_path):
    rows = ((3, "One ."), (-3, "Two &amp; three"), (-2, "One ."), (2, "Two  & three"))
    assert prepared_labels(tmp_path, *rows) == {"One .": "0", "Two & three": "1"}


def test_archive_with_another_checksum_is_refused():
    archive = vader_archive()
    with pytest.raises(InputError) as error:
        ARCHIVE.check(archive)
    message = str(error.value)
    assert message.startswith(
        "vaderSentiment==0.5: expected a source archive with SHA-256 5d97c37f"
    )
    assert f"got {hashlib.sha256(archive).hexdigest()}" in message


def test_error_of_pip_is_reported_in_one_line(pip_without_index, tmp_path):
    with pytest.raises(InputError) as error:
        prepare_dataset("movie_reviews", tmp_path)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert message.startswith("vaderSentiment==0.5: expected pip to download its source archive")
    assert "got: ERROR: No matching distribution found" in message
    assert not list(tmp_path.iterdir())
