"""`innkeeper new-generation`: an operator decides to continue with a log that the cursors do not refer to."""

from typing import Annotated

import typer

from operators.cli.commands.options import Yes, examples, group

app = group("New generations of a topic.")


@app.command(
    "new-generation",
    epilog=examples("innkeeper new-generation booking.commands", "innkeeper new-generation booking.commands --yes"),
)
def new_generation_command(
    topic: Annotated[str, typer.Argument(help="The topic's name, such as booking.commands.")],
    *,
    yes: Yes = False,
) -> None:
    """Continue with a log that was cut or replaced under its cursors.

    A worker that finds another log than the one it left stops and names this command. Stop every worker that reads the
    topic before, start them after.

    Exit status: 0 done; 1 refused, or only printed the plan; 2 the database cannot be used.
    """
    from operators.cli import new_generation

    new_generation.new_generation_command(topic, yes=yes)
