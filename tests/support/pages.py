"""The Python code of the pages of the documentation."""

import re
from pathlib import Path


def code_of(page: Path) -> list[str]:
    """The code blocks of a page, in order."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
