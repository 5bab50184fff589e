"""The command line `innkeeper`: one file a command group. Nothing else in the house imports typer or rich."""
