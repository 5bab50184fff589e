"""Begins a new generation of a topic."""

import psycopg

from operators.cli.console import COULD_NOT, database_settings, err, fail, kafka_settings
from storage import generations


def new_generation_command(topic: str, *, yes: bool) -> None:
    """Begin a new generation of a topic, or without `yes` only explain it."""
    prefix = kafka_settings().topic_prefix
    name = prefix + topic.removeprefix(prefix)
    err.print(generations.EXPLANATION.format(topic=name), markup=False)
    if not yes:
        fail("Nothing was done: add --yes to do it.")
    try:
        number = generations.begin(database_settings(), name)
    except generations.NoGenerationYet as error:
        fail(str(error))
    except psycopg.Error as error:
        fail(str(error).strip(), COULD_NOT)
    err.print(f"{name} is in generation {number} now. Start the workers.", markup=False)
