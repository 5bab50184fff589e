"""The command line `innkeeper`: one file a command group. Nothing else beside the sandbox imports typer or rich.

`main` has the table of commands. `commands/` declares their words: arguments, options, help, examples. The module of
the same name beside it carries a command out and prints the result; it is imported when the command is invoked.
"""
