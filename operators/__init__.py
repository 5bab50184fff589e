"""Operators' tools: each a package that any program could call, and the command line before them in `operators.cli`."""
