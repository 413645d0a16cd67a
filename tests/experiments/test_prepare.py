import gzip
import hashlib
import io
import subprocess
import sys
import tarfile
import urllib.error
import zipfile
from pathlib import Path

import numpy as np
import pytest

from akd_jax.data import cifar, idx
from akd_jax.errors import InputError
from experiments import prepare as launcher
from experiments.prepare import prepare_dataset


@pytest.fixture
def network(monkeypatch):
    """Answers with what is put into it, by address; counts what was asked."""
    pages, asked = {}, []

    def urlopen(address, timeout):
        asked.append(address)
        assert timeout <= 20
        if address not in pages:
            raise urllib.error.URLError("Name or service not known")
        return io.BytesIO(pages[address])

    monkeypatch.setattr("urllib.request.urlopen", urlopen)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)  # No TensorFlow.
    pages["asked"] = asked
    return pages


def idx_files():
    found = {}
    for count, names in ((6, idx.FILES["train"]), (3, idx.FILES["test"])):
        for name, shape in zip(names, ((count, 5, 5), (count,)), strict=True):
            header = bytes([0, 0, 8, len(shape)])
            header += b"".join(size.to_bytes(4, "big") for size in shape)
            found[f"{name}.gz"] = gzip.compress(header + bytes(int(np.prod(shape))))
    return found


def test_what_is_fetched_is_ready_and_not_fetched_again(network, tmp_path):
    for name, content in idx_files().items():
        network[launcher._FASHION_MNIST_URL + name] = content
    for _ in range(2):
        line = prepare_dataset("fashion_mnist", tmp_path / "new")
        assert line.startswith("fashion_mnist is ready in")
        assert "6 training and 3 test examples" in line
    assert len(network["asked"]) == 4


def test_without_a_network_the_file_and_the_place_are_named(network, tmp_path):
    with pytest.raises(InputError) as error:
        prepare_dataset("cifar10", tmp_path)
    for part in ("kriz/cifar-10-binary.tar.gz", "Name or service not known", str(tmp_path)):
        assert part in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_download_is_found_by_its_checksum(network, tmp_path):
    network[launcher._CIFAR_URL + "cifar-100-binary.tar.gz"] = b"half of it"
    with pytest.raises(InputError) as error:
        prepare_dataset("cifar100", tmp_path)
    assert cifar.ARCHIVES["cifar100"].md5 in str(error.value)
    assert hashlib.md5(b"half of it").hexdigest() in str(error.value)


def test_an_unknown_data_set(network, tmp_path):
    with pytest.raises(
        InputError, match="one of cifar10, cifar100, fashion_mnist, movie_reviews, got 'mnist'"
    ):
        prepare_dataset("mnist", tmp_path)


def vader_archive(*rows):
    """A source archive with these ratings and sentences, and enough others for three files."""
    rows = [*rows, *((2.0 if n % 2 else -2.0, f"sentence number {n} .") for n in range(2100))]
    lines = [f"{n}_1\t{rating}\t{sentence}\n" for n, (rating, sentence) in enumerate(rows)]
    ratings, archive = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=ratings, mode="w:gz") as tar:
        for name, content in {
            "tweets_GroundTruth.txt": b"1\t1.0\tNot one of these .\n",
            "._movieReviewSnippets_GroundTruth.txt": b"\x00\x05\x16",
            "movieReviewSnippets_GroundTruth.txt": "".join(lines).encode("latin-1"),
        }.items():
            member = tarfile.TarInfo(f"hutto_ICWSM_2014/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("vaderSentiment-0.5/setup.py", "raise SystemExit('not run')")
        folder = "vaderSentiment-0.5/vaderSentiment"
        packed.writestr(f"{folder}/hutto_ICWSM_2014.tar.gz", ratings.getvalue())
    return archive.getvalue()


@pytest.fixture
def pip(monkeypatch):
    """Downloads what is given to it, of which the checksum is then expected; or fails."""

    class Pip:
        archive, stderr, calls = None, "", 0

        def serve(self, archive):
            self.archive = archive
            monkeypatch.setattr(launcher, "_VADER_SHA256", hashlib.sha256(archive).hexdigest())

        def run(self, command, **_):
            self.calls += 1
            assert command[:4] == [sys.executable, "-m", "pip", "download"]
            assert command[-1] == "vaderSentiment==0.5"
            (folder,) = (word[7:] for word in command if word.startswith("--dest="))
            if self.archive is not None:
                (Path(folder) / "vaderSentiment-0.5.zip").write_bytes(self.archive)
            return subprocess.CompletedProcess(command, bool(self.stderr), "", self.stderr)

    found = Pip()
    monkeypatch.setattr(launcher.subprocess, "run", found.run)
    return found


def read_rows(folder):
    found = {}
    for name in ("train", "dev", "test"):
        header, *rows = (folder / f"{name}.tsv").read_bytes().decode().split("\n")
        assert header == "sentence\tlabel"
        assert rows.pop() == ""
        found[name] = [tuple(row.split("\t")) for row in rows]
    return found


def prepared_labels(pip, folder, *rows):
    pip.serve(vader_archive(*rows))
    prepare_dataset("movie_reviews", folder)
    pairs = [pair for rows in read_rows(folder).values() for pair in rows]
    assert len(dict(pairs)) == len(pairs)
    return {text: code for text, code in pairs if not text.startswith("sentence number")}


def test_movie_reviews_are_made_once(pip, tmp_path):
    pip.serve(vader_archive())
    for _ in range(2):
        line = prepare_dataset("movie_reviews", tmp_path / "new")
        assert line.endswith("100 training and 1,000 test examples")
    assert pip.calls == 1
    rows = read_rows(tmp_path / "new")
    assert {name: len(part) for name, part in rows.items()} == {
        "train": 100,
        "dev": 1000,
        "test": 1000,
    }
    found = dict(rows["train"] + rows["dev"] + rows["test"])
    assert found == {f"sentence number {n} .": str(n % 2) for n in range(2100)}
    for part in rows.values():  # At random, so that they are alike.
        assert part not in (sorted(part), sorted(part)[::-1])
    assert max(rows["dev"]) > min(rows["test"])
    assert max(rows["test"]) > min(rows["dev"])


def test_movie_reviews_are_the_same_files_whenever_they_are_made(pip, tmp_path):
    pip.serve(vader_archive())
    for name in ("one", "other"):
        prepare_dataset("movie_reviews", tmp_path / name)
    assert read_rows(tmp_path / "one") == read_rows(tmp_path / "other")


def test_sentences_rated_near_zero_are_left_out(pip, tmp_path):
    ratings = (0.5, -0.5, 0, 0.51, -0.51, 4, -4, "1e-1")
    found = prepared_labels(pip, tmp_path, *((rating, f"Rated {rating}") for rating in ratings))
    assert found == {"Rated 0.51": "1", "Rated -0.51": "0", "Rated 4": "1", "Rated -4": "0"}


def test_sentences_are_cleaned(pip, tmp_path):
    found = prepared_labels(
        pip,
        tmp_path,
        (2, "A na\xefve caf\xe9 .\r"),
        (2, "Fish &amp; &quot;chips&quot; &eacute;"),
        (2, "''quoted'' , it's said"),
        (2, "  much   white\xa0 space &#9; and&#10;lines "),
    )
    assert set(found) == {
        "A naïve café .",
        'Fish & "chips" é',
        '"quoted" , it\'s said',
        "much white space and lines",
    }


def test_of_a_sentence_that_is_there_twice_the_later_rating_is_kept(pip, tmp_path):
    rows = ((3, "One ."), (-3, "Two &amp; three"), (-2, "One ."), (2, "Two  & three"))
    assert prepared_labels(pip, tmp_path, *rows) == {"One .": "0", "Two & three": "1"}


def failure(folder):
    with pytest.raises(InputError) as error:
        prepare_dataset("movie_reviews", folder)
    message = str(error.value)
    assert len(message.splitlines()) == 1
    assert "vaderSentiment==0.5" in message
    assert not list(folder.iterdir())
    return message


def test_an_archive_of_another_checksum_is_not_used(pip, tmp_path):
    expected = launcher._VADER_SHA256
    pip.archive = vader_archive()
    message = failure(tmp_path)
    assert f"expected a source archive of SHA-256 {expected}" in message
    assert f"got {hashlib.sha256(pip.archive).hexdigest()}" in message


def test_a_failure_of_pip_is_said_with_its_last_line(pip, tmp_path):
    pip.stderr = "WARNING: Retrying after a timeout\nERROR: No matching distribution found\n"
    assert failure(tmp_path).endswith("got: ERROR: No matching distribution found")
    pip.stderr = ""
    assert failure(tmp_path).endswith("got: no archive came")
