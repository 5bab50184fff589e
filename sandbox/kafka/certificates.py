"""Certificates for a broker on 127.0.0.1 and its clients, from an authority of the folder's own, made with openssl."""

import shutil
from pathlib import Path

from sandbox.spawning import run

_DAYS = "3650"
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


class Certificates:
    """Files in PEM: `authority`, and for each name its key and, behind it in the same file, its certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = folder / "authority.pem"

    def of(self, name: str) -> Path:
        """The file of a name: its key and its certificate."""
        return self.folder / f"{name}.pem"

    async def make(self, *names: str) -> None:
        """Make what is not there yet. The common name of each is the name, and all are valid for 127.0.0.1."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        if not self.authority.exists():
            to = ("-keyout", str(self._authority_key), "-out", str(self.authority))
            await self._openssl("req", "-x509", *_KEY, "-days", _DAYS, "-subj", "/CN=sandbox", *to)
        for name in names:
            if not self.of(name).exists():
                await self._sign(name)

    async def _sign(self, name: str) -> None:
        key, request, signed = (self.folder / f"{name}.{kind}" for kind in ("key", "request", "signed"))
        terms = self.folder / "terms"
        terms.write_text("subjectAltName=IP:127.0.0.1\n")
        await self._openssl("req", "-new", *_KEY, "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(request))
        authority = ("-CA", str(self.authority), "-CAkey", str(self._authority_key), "-CAcreateserial")
        files = ("-in", str(request), "-out", str(signed), "-extfile", str(terms))
        await self._openssl("x509", "-req", *authority, *files, "-days", _DAYS)
        self.of(name).touch(mode=0o600)
        self.of(name).write_text(key.read_text() + signed.read_text())
        for file in (key, request, signed, terms):
            file.unlink()

    async def _openssl(self, *arguments: str) -> None:
        await run(("openssl", *arguments), {}, self.folder / "openssl.log")

    @property
    def _authority_key(self) -> Path:
        return self.folder / "authority.key"


def available() -> str | None:
    """Why no certificates can be made on this machine, in one sentence; None when they can."""
    return None if shutil.which("openssl") else "openssl is not installed (apt-get install openssl)."
