"""Folders of the sandbox: those of the checkout, or for an installed package the user's own (XDG base directories)."""

import os
from pathlib import Path
from typing import Final

_ABOVE: Final = Path(__file__).parents[1]


def _folder(in_checkout: str, variable: str, default: str) -> Path:
    if (_ABOVE / "pyproject.toml").is_file():
        return _ABOVE / in_checkout
    # By the specification a relative path is ignored.
    named = Path(os.environ.get(variable, ""))
    return (named if named.is_absolute() else Path.home() / default) / "innkeeper"


#: Downloads, which may be deleted at any time.
CACHE: Final = _folder(".cache", "XDG_CACHE_HOME", ".cache")
#: All data.
STATE: Final = _folder(".sandbox", "XDG_STATE_HOME", ".local/state")
