"""nginx for the tests, configured as it is deployed: `async with Nginx(folder, urls) as proxy: proxy.url`."""

import os
import shutil
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import IO, Final
from urllib.parse import urlsplit

import aiohttp
from typing_extensions import override

from sandbox.locations import Location
from sandbox.ports import free_port
from sandbox.processes import ManagedProcess
from sandbox.spawning import tail

TEMPLATE: Final = Path(__file__).parent.parent / "deploy" / "nginx" / "innkeeper.conf.template"
_MAIN: Final = """
daemon off;
pid $folder/nginx.pid;
error_log $folder/nginx.log warn;
user $user;
worker_processes 1;
events { worker_connections 1024; }
http {
    access_log off;
    client_body_temp_path $folder/body;
    proxy_temp_path $folder/proxy;
    fastcgi_temp_path $folder/fastcgi;
    uwsgi_temp_path $folder/uwsgi;
    scgi_temp_path $folder/scgi;
    include $folder/innkeeper.conf;
}
"""


class Nginx(ManagedProcess):
    """A proxy in front of ingress processes, with a certificate that it signed itself.

    With a `public_prefix` it serves them below that path, configured as in docs/deployment.md. Without `tls` it serves
    clients that cannot be given its certificate; all else is as it is deployed.
    """

    def __init__(
        self,
        folder: Path,
        urls: Sequence[str],
        public_prefix: str = "",
        *,
        location: Location | None = None,
        tls: bool = True,
    ) -> None:
        super().__init__("nginx")
        location = location or Location()
        self.prefix = location.prefix
        self._host = location.host
        self._tls = tls
        self._public_prefix = public_prefix
        self.folder = folder.resolve()
        self._urls = urls
        self._port = free_port()
        self._plain_port = free_port()

    @property
    def url(self) -> str:
        """The address of the ingress processes behind it, by TLS."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}{self._public_prefix}"

    @property
    def plain_url(self) -> str:
        """Its address without TLS, which redirects to the other."""
        return f"http://{self._host}:{self._plain_port}"

    def trust(self) -> ssl.SSLContext:
        """Return the TLS context of a client that trusts its certificate."""
        return ssl.create_default_context(cafile=self.folder / "tls.crt")

    @override
    async def prepare(self) -> None:
        """Write the configuration and, the first time, a certificate."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / "tls.crt").exists():
            _certify(self.folder, self._host)
        servers = [f"server {urlsplit(url).netloc} max_fails=1 fail_timeout=1s;" for url in self._urls]
        values = {
            "INGRESSES": " ".join(servers),
            "HTTP_PORT": f"{self._host}:{self._plain_port}",
            "HTTPS_PORT": f"{self._host}:{self._port}",
            "TLS_FOLDER": str(self.folder),
        }
        # As envsubst does with a list of names: nginx's own variables stay.
        configuration = Template(TEMPLATE.read_text()).safe_substitute(values)
        if self._public_prefix:
            configuration = below(self._public_prefix, configuration)
        if not self._tls:
            listen = f"listen {self._host}:{self._port}"
            configuration = _changed(configuration, {f"{listen} ssl;": f"{listen};"})
        (self.folder / "innkeeper.conf").write_text(configuration)
        user = "root" if os.geteuid() == 0 else "nobody"
        (self.folder / "nginx.conf").write_text(Template(_MAIN).safe_substitute(folder=self.folder, user=user))

    @override
    def command(self) -> Sequence[str]:
        return [_program(), "-c", str(self.folder / "nginx.conf"), "-e", str(self.folder / "nginx.log")]

    @override
    def output(self) -> IO[bytes] | int:
        return (self.folder / "nginx.log").open("ab")

    @override
    async def is_ready(self) -> bool:
        try:
            async with aiohttp.ClientSession() as session, session.get(f"{self.url}/health/live", ssl=self.trust()):
                return True
        except aiohttp.ClientError:
            return False

    @override
    def last_words(self) -> str:
        return tail(self.folder / "nginx.log")


def below(public_prefix: str, configuration: str) -> str:
    """Return the configuration with the ingress below a path: the two lines that docs/deployment.md changes."""
    changes = {
        "location / {": f"location {public_prefix}/ {{",
        "proxy_pass http://ingress;": "proxy_pass http://ingress/;",
    }
    return _changed(configuration, changes)


def _changed(configuration: str, changes: Mapping[str, str]) -> str:
    for line, new in changes.items():
        if configuration.count(line) != 1:
            raise ValueError(f"the configuration has not one line {line!r}")
        configuration = configuration.replace(line, new)
    return configuration


def available() -> str | None:
    """Why nginx cannot run on this machine, in one sentence; None when it can."""
    if shutil.which("nginx") is None and not Path("/usr/sbin/nginx").exists():
        return "nginx is not installed: apt-get install nginx-light (Debian), brew install nginx (macOS)."
    if shutil.which("openssl") is None:
        return "openssl, which makes the certificate, is not installed."
    return None


def _program() -> str:
    return shutil.which("nginx") or "/usr/sbin/nginx"


def _certify(folder: Path, host: str) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=innkeeper.test", "-addext", f"subjectAltName=IP:{host}"),
            *("-keyout", str(folder / "tls.key"), "-out", str(folder / "tls.crt")),
        ],
        check=True,
        capture_output=True,
    )
