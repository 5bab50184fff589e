"""`python -m storage reconcile` ends here: Stripe's key is payments' own."""

import typer

from workers.reconciling.command import reconcile_command

app = typer.Typer(add_completion=False, rich_markup_mode="rich")
app.command()(reconcile_command)

if __name__ == "__main__":
    app(prog_name="python -m storage reconcile")
