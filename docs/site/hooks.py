"""Hooks of MkDocs: pages that are made from other files, and links to files outside of docs/."""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
# Pages from files outside of docs/, and the folder that their links are relative to.
_PAGES = {"results.md": "experiments/results/README.md"}
# The modules of the reference. Those with __all__ show the names in it.
_MODULES = {
    "akd_jax": ("akd_jax",),
    "losses": ("akd_jax.losses",),
    "schedules": ("akd_jax.schedules",),
    "types": ("akd_jax.types",),
    "training": ("akd_jax.training.step", "akd_jax.training.stage", "akd_jax.training.method"),
    "methods": ("akd_jax.methods", "akd_jax.methods.base"),
    "data": ("akd_jax.data", "akd_jax.data.dataset", "akd_jax.data.batches"),
    "models": ("akd_jax.models", "akd_jax.models.network"),
    "metrics": ("akd_jax.metrics",),
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?!https?:|#|mailto:)([^)\s#]*)(#[^)\s]*)?\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds the results and the pages of the reference."""
    for page, source in _PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for name, modules in _MODULES.items():
        title = modules[0] if len(modules) == 1 else name.capitalize()
        parts = [f"# {title}\n"]
        for module in modules:
            parts += [f"## {module}\n"] if len(modules) > 1 else []
            parts.append(f"::: {module}\n")
        files.append(File.generated(config, f"reference/{name}.md", content="\n".join(parts)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns links to files of the repository that are no pages into the names of the files."""
    source = _PAGES.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    folder = posixpath.dirname(source)

    def replace(match: re.Match[str]) -> str:
        text, target, anchor = match[1], match[2], match[3] or ""
        if not target:
            return match[0]
        path = posixpath.normpath(posixpath.join(folder, target))
        for name, other in _PAGES.items():
            if path in (other, posixpath.dirname(other)):
                return f"[{text}]({_relative(name, page)}{anchor})"
        if path.startswith("docs/"):
            inside = path.removeprefix("docs/")
            if files.get_file_from_path(inside) is not None:
                return f"[{text}]({_relative(inside, page)}{anchor})"
        # The names of files stay, since the site has no copy of the repository.
        return text if path in text or text.startswith("`") else f"{text} (`{path}`)"

    return _LINK.sub(replace, markdown)


def _relative(target: str, page: Any) -> str:
    return posixpath.relpath(target, posixpath.dirname(page.file.src_uri) or ".")
