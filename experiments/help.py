"""The text of --help: a launcher's description, its flags, and the fields of --config."""

import shlex
import shutil
import textwrap
from collections.abc import Iterator, Sequence

import pydantic
from absl import flags

_OPTIONS = {f"{dashes}{name}" for dashes in ("-", "--") for name in ("help", "helpshort", "?")}


def is_requested(argv: Sequence[str]) -> bool:
    """Returns whether the command-line arguments contain --help, --helpshort or -?."""
    return not _OPTIONS.isdisjoint(argv[1:])


def text(
    description: str,
    own_flags: Sequence[flags.Flag],
    required: Sequence[str],
    config: pydantic.BaseModel | None = None,
) -> str:
    """Returns the help text of a launcher, wrapped at the width of the terminal.

    Args:
      description: docstring of the launcher's module.
      own_flags: the launcher's flags, without those of absl and JAX.
      required: names of the flags that must be given.
      config: the default configuration, if the launcher has a --config flag.
    """
    parts = [description.strip(), "", "Flags:"]
    parts += [_wrap(_option(flag), _flag_description(flag, required)) for flag in own_flags]
    if config is not None:
        parts += ["", "Fields of the configuration:"]
        parts += [_wrap(option, description) for option, description in _fields(config, "config")]
    return "\n".join(parts)


def _option(flag: flags.Flag) -> str:
    """Returns a flag with its default value, such as '--seeds=3'."""
    if flag.boolean or flag.default is None:
        return f"--{flag.name}"
    return f"--{flag.name}={shlex.quote(str(flag.default))}"


def _flag_description(flag: flags.Flag, required: Sequence[str]) -> str:
    return f"{flag.help or ''}{' (required)' if flag.name in required else ''}"


def _fields(section: pydantic.BaseModel, path: str) -> Iterator[tuple[str, str]]:
    """Yields each field of a configuration section as an option, with its description.

    An option has the field's current value, such as '--config.student.epochs=400'.
    """
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, pydantic.BaseModel):
            yield from _fields(value, f"{path}.{name}")
        else:
            yield f"--{path}.{name}={shlex.quote(str(value))}", field.description or ""


def _wrap(option: str, description: str) -> str:
    return textwrap.fill(
        f"{option}  {description}".strip(),
        width=shutil.get_terminal_size().columns,
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
