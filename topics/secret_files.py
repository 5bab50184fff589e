"""The folder of secrets in files, each named as its setting (`jwt_secret_key`). The environment overrides them."""

import os
from pathlib import Path
from typing import Final


def _folder() -> Path | None:
    folder = Path(os.environ.get("SECRETS_FOLDER", "/run/secrets"))
    return folder if folder.is_dir() else None


#: The folder in a container; None when there is none. Looked up once: settings are read at the start of a process.
SECRETS: Final = _folder()
