"""Vulnerable packages fail `make audit`; advisories out of reach are reported as missing, and fail nothing."""

import json
from typing import Any

from tests.advisories import judged


def _report(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


SOUND = {"name": "aiohttp", "version": "3.14.5", "vulns": []}
VULNERABLE = {"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"]}]}
UNKNOWN = {"name": "stripe", "skip_reason": "Dependency not found on PyPI and could not be audited"}


def test_a_vulnerable_package_fails_and_is_named() -> None:
    status, lines = judged(_report(SOUND, VULNERABLE, UNKNOWN), "")

    assert status == 1
    assert lines == [
        "jinja2 2.4.1: PYSEC-2019-217, mended in 2.10.1",
        "not checked: stripe",
        "2 packages checked, 1 with known vulnerabilities",
    ]


def test_sound_packages_pass() -> None:
    assert judged(_report(SOUND), "") == (0, ["1 packages checked, 0 with known vulnerabilities"])


def test_advisories_out_of_reach_fail_nothing_and_are_reported() -> None:
    for report, complaint in ((_report(UNKNOWN, UNKNOWN), ""), ("", "ConnectionError: no route")):
        status, lines = judged(report, complaint)
        assert (status, lines[0]) == (0, "NOT CHECKED: the advisories cannot be reached.")
        assert len(lines) == 2
