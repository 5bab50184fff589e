"""Tests of the command line itself, apart from what its commands do."""
