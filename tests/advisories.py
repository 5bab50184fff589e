"""`python -m tests.advisories` looks the locked packages up among the known vulnerabilities (`make audit`).

Exit status 1 when one of them has some. Where the advisories cannot be reached, a line reports it, and nothing fails.
"""

import json
import subprocess
import sys
from typing import NamedTuple

_COMMAND = ("pip_audit", "--requirement", "requirements.lock", "--disable-pip", "--format", "json")


class Verdict(NamedTuple):
    """The exit status, and what a person should read."""

    status: int
    lines: list[str]


def judged(report: str, complaint: str) -> Verdict:
    """Return the verdict of pip-audit's JSON; an empty report means that it broke off with the complaint."""
    if not report:
        return Verdict(0, ["NOT CHECKED: the advisories cannot be reached.", *complaint.splitlines()[-1:]])
    packages = json.loads(report)["dependencies"]
    found = [package for package in packages if package.get("vulns")]
    skipped = [package for package in packages if "skip_reason" in package]
    lines = [
        f"{package['name']} {package['version']}: {advisory['id']}, mended in {', '.join(advisory['fix_versions'])}"
        for package in found
        for advisory in package["vulns"]
    ]
    if len(skipped) == len(packages):
        return Verdict(0, ["NOT CHECKED: the advisories cannot be reached.", skipped[0]["skip_reason"]])
    if skipped:
        lines.append(f"not checked: {', '.join(package['name'] for package in skipped)}")
    checked = len(packages) - len(skipped)
    return Verdict(1 if found else 0, [*lines, f"{checked} packages checked, {len(found)} with known vulnerabilities"])


def main() -> int:
    """Ask, print the answer, and return the exit status."""
    asked = subprocess.run([sys.executable, "-m", *_COMMAND], capture_output=True, text=True, check=False)
    status, lines = judged(asked.stdout, asked.stderr)
    sys.stdout.write("\n".join([*lines, ""]))
    return status


if __name__ == "__main__":
    sys.exit(main())
