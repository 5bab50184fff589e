"""Tests of the package that `pip install .` gives."""
