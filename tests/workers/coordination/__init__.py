"""Tests of coordination: events become commands to other keys."""
