"""Where secrets lie as files, each named as its setting, such as `jwt_secret_key`. The environment goes before them."""

import os
from pathlib import Path
from typing import Final


def _folder() -> Path | None:
    folder = Path(os.environ.get("SECRETS_FOLDER", "/run/secrets"))
    return folder if folder.is_dir() else None


#: Where containers find theirs; None when there is none. Looked up once: settings are read at the start of a process.
SECRETS: Final = _folder()
