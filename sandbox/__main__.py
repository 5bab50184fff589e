"""`python -m sandbox`: the whole system on this machine."""

import typer

from sandbox.demo import demo
from sandbox.replay import replay
from sandbox.up import up

app = typer.Typer(no_args_is_help=True, help=__doc__)


@app.callback()
def _about() -> None:
    """Run the whole system on this machine.

    `up` uses the servers named in KAFKA_URL and DATABASE_URL, if any, instead of its own.
    """


app.command()(demo)
app.command()(up)
app.command()(replay)

if __name__ == "__main__":
    app()
