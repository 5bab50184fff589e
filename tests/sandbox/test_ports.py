"""A port is promised to one process, also while nothing listens there yet."""

import subprocess
import sys
from pathlib import Path

from sandbox.ports import free_port

ROOT = Path(__file__).parents[2]
#: Picks from the one given port.
ANOTHER_PROCESS = """
import sys
from sandbox import ports

ports.LOWEST_PORT = int(sys.argv[1])
ports._lowest_ephemeral_port = lambda: ports.LOWEST_PORT + 1
print(ports.free_port())
"""


def test_a_port_is_given_to_one_process_alone() -> None:
    """Given a port on which we do not listen yet, another process does not get it."""
    ours = free_port()

    asked = [sys.executable, "-c", ANOTHER_PROCESS, str(ours)]
    ended = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)

    assert (ended.returncode, ended.stdout) == (1, "")
    assert f"no free port between {ours} and {ours}" in ended.stderr
