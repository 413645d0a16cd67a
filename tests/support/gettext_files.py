"""Catalogs of GNU gettext in the binary format of its manual, as msgfmt writes them."""

import itertools
import struct


def write_catalog(path, translations, charset="utf-8"):
    """Writes a .mo file.

    The translations map texts to texts, or tuples of a singular and a plural to tuples. A text with
    a context is (context + "\\x04" + text).
    """
    header = {"": f"Content-Type: text/plain; charset={charset}\nPlural-Forms: nplurals=2;\n"}
    entries = sorted(
        (_encode(source, charset), _encode(target, charset))
        for source, target in {**header, **translations}.items()
    )
    columns = [list(column) for column in zip(*entries, strict=True)]
    start = 28 + 16 * len(entries)  # Behind the header of the file and two tables.
    strings = [string + b"\0" for column in columns for string in column]
    offsets = list(itertools.accumulate(map(len, strings), initial=start))
    tables = b"".join(
        struct.pack("<2I", len(string) - 1, offset)
        for string, offset in zip(strings, offsets, strict=False)
    )
    places = (28, 28 + 8 * len(entries), 0, start)  # Of the tables, and of a table of hashes.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        struct.pack("<7I", 0x950412DE, 0, len(entries), *places) + tables + b"".join(strings)
    )
    return path


def _encode(texts, charset):
    return "\0".join([texts] if isinstance(texts, str) else texts).encode(charset)
