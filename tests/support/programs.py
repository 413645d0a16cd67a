"""Programs that replace those of the machine."""

import os


def replace_program(monkeypatch, folder, name, script):
    """Puts a shell script into a folder at the start of the search path of programs."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    path = os.environ["PATH"].split(os.pathsep)
    if path[0] != str(folder):
        monkeypatch.setenv("PATH", os.pathsep.join([str(folder), *path]))
