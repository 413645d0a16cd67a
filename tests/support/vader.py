"""Archives like the source archive of the PyPI package vaderSentiment."""

import io
import tarfile
import zipfile


def archive(**files):
    """Returns an archive with files of ratings, by name, from rows (rating, sentence)."""
    ratings, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=ratings, mode="w:gz") as tar:
        for name, rows in files.items():
            lines = [f"{n}_1\t{rating}\t{sentence}\n" for n, (rating, sentence) in enumerate(rows)]
            for prefix, content in (
                ("._", b"\x00\x05\x16"),  # A file of macOS, as in the real archive.
                ("", "".join(lines).encode("latin-1")),
            ):
                member = tarfile.TarInfo(f"hutto_ICWSM_2014/{prefix}{name}_GroundTruth.txt")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    with zipfile.ZipFile(packed, "w") as zip_file:
        zip_file.writestr("vaderSentiment-0.5/setup.py", "raise SystemExit('not run')")
        folder = "vaderSentiment-0.5/vaderSentiment"
        zip_file.writestr(f"{folder}/hutto_ICWSM_2014.tar.gz", ratings.getvalue())
    return packed.getvalue()
