"""The words of the command line: arguments, options, help and examples of every command. Nothing here is slow to load.

`--help` and completion import these modules alone. A command imports the code that carries it out when it is invoked.
"""
