"""`python -m storage restore` ends here: what an event does is the workers' to know."""

import typer

from workers.restoring.command import restore_command

app = typer.Typer(add_completion=False)
app.command()(restore_command)

if __name__ == "__main__":
    app(prog_name="python -m storage restore")
