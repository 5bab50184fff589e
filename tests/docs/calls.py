"""Runs calls of `innkeeper` one after the other in one process, so that its imports are paid once.

`python -m tests.docs.calls` reads a JSON list of calls, each a list of arguments, from stdin. For each it writes a JSON
object a line: `status`, the exit status, and `output`, the text on stdout and stderr with the traceback of an error.
"""

import json
import sys
import traceback
from typing import Any

from typer.testing import CliRunner

from operators.cli.main import app


def run(arguments: list[str]) -> dict[str, Any]:
    """Return the exit status and the output of one call."""
    result = CliRunner().invoke(app, arguments)
    output = result.output
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        output += "".join(traceback.format_exception(result.exception))
    return {"status": result.exit_code, "output": output}


if __name__ == "__main__":
    for each in json.load(sys.stdin):
        sys.stdout.write(json.dumps(run(each)) + "\n")
        sys.stdout.flush()
