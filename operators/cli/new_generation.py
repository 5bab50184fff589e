"""`innkeeper new-generation`: an operator's decision to continue with a log that is not the one the cursors know."""

from typing import Annotated

import psycopg
import typer

from operators.cli.console import COULD_NOT, Yes, err, fail, kafka_settings
from storage import generations
from storage.settings import DatabaseSettings


def new_generation_command(
    topic: Annotated[str, typer.Argument(help="The topic's name, such as booking.commands.")],
    *,
    yes: Yes = False,
) -> None:
    """Continue with a log that was cut or replaced under its cursors.

    A worker that finds another log than the one it left stops and names this command. Stop every worker that reads the
    topic before, start them after.

    Exit status: 0 done; 1 refused, or only said what would be done; 2 the database cannot be used.
    """
    prefix = kafka_settings().topic_prefix
    name = prefix + topic.removeprefix(prefix)
    err.print(generations.EXPLANATION.format(topic=name), markup=False)
    if not yes:
        fail("Nothing was done: add --yes to do it.")
    try:
        number = generations.begin(DatabaseSettings(), name)
    except generations.NoGenerationYet as error:
        fail(str(error))
    except psycopg.Error as error:
        fail(str(error).strip(), COULD_NOT)
    err.print(f"{name} is in generation {number} now. Start the workers.", markup=False)
