"""References to the environment: `${VAR}`, `${VAR:-default}`, `NAME_env: VAR` and `NAME_file: PATH`.

`$${` stands for a plain `${`. A default is used when the variable is unset or empty, as in a shell.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import quote, quote_plus

from exporter.errors import SecretMissing

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(:-([^}]*))?\}")
_HIDDEN = "***"
_SHORTEST_SECRET = 3  # shorter ones occur in any text; hiding them would garble it and reveal them


class VariableMissing(ValueError):  # noqa: N818 - named for what happened, as in exporter.errors
    """A `${VAR}` without default whose variable is not set."""

    def __init__(self, name: str) -> None:
        super().__init__(f"environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        self.name = name


def expand(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """Replace the references in `text`; VariableMissing when one has neither value nor default."""

    def value(match: re.Match[str]) -> str:
        name, has_default, default = match.groups()
        if name is None:
            return "${"
        found = environ.get(name)
        if found or (found is not None and not has_default):
            return found
        if has_default:
            return str(default)
        raise VariableMissing(name)

    return _REFERENCE.sub(value, text)


def references(text: str) -> Iterator[str]:
    """Names of the variables that `text` needs: those without a default."""
    return (name for name, has_default, _ in _REFERENCE.findall(text) if name and not has_default)


class Secrets:
    """Reads the environment for one collection, and hides what it read in any text about that collection."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        self._environ = os.environ if environ is None else environ
        self._read: set[str] = set()
        self._digests: dict[tuple[Literal["env", "file"], str], bytes] = {}

    @property
    def changed(self) -> bool:
        """Whether a variable or file that was read, or was to be read, holds something else now."""
        return any(digest != self._digest(*reference) for reference, digest in self._digests.items())

    def follow(self, path: str | Path) -> None:
        """Count a file among those that were read, one that a library opens by itself: a key or certificate."""
        self._note("file", str(path))

    def _note(self, kind: Literal["env", "file"], name: str) -> None:
        self._digests[kind, name] = self._digest(kind, name)

    def _digest(self, kind: Literal["env", "file"], name: str) -> bytes:
        """What stands for the present value of a variable or file; the same for all that cannot be read."""
        if kind == "env":
            value = self._environ.get(name)
            content = None if value is None else value.encode("utf-8", "surrogateescape")
        else:
            try:
                content = Path(name).read_bytes()
            except OSError:
                content = None
        return b"" if content is None else hashlib.blake2b(content, digest_size=16).digest()

    def expand(self, text: str) -> str:
        """`text` with its references replaced; what they stood for counts as secret."""
        self.hide_references(text)
        try:
            return expand(text, self._environ)
        except VariableMissing as error:
            raise SecretMissing(str(error)) from None

    def variable(self, name: str) -> str:
        """Value of an environment variable that is no secret, such as a host name."""
        self._note("env", name)
        try:
            return self._environ[name]
        except KeyError:
            raise SecretMissing(f"environment variable {name} is not set") from None

    def secret(self, *, env: str | None = None, file: str | None = None, template: str | None = None) -> str | None:
        """The secret that one of the three names, None when none is given. A file's last line end is no part of it."""
        if env is not None:
            value = self.variable(env)
        elif file is not None:
            self._note("file", file)
            try:
                value = Path(file).read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise SecretMissing(f"secret file {file} cannot be read: {_cause(error)}") from None
        elif template is not None:
            value = self.expand(template)
        else:
            return None
        self.hide(value)
        return value

    def hide(self, value: str) -> None:
        """From now on `redact` replaces `value`, as it is and as it is written in a URL."""
        if len(value) >= _SHORTEST_SECRET:
            self._read.update({value, quote(value, safe=""), quote(value), quote_plus(value), repr(value)[1:-1]})

    def hide_references(self, text: str) -> None:
        """Hide what the references in `text` stand for."""
        for name, _, _ in _REFERENCE.findall(text):
            if name:
                self._note("env", name)
                self.hide(self._environ.get(name, ""))

    def redact(self, text: str) -> str:
        """`text` without anything that was read as a secret; the longest first, for one may contain another."""
        for value in sorted(self._read, key=len, reverse=True):
            text = text.replace(value, _HIDDEN)
        return text


def _cause(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or type(error).__name__ if isinstance(error, OSError) else "not UTF-8 text"
