"""Tests of operators' actions on a running system."""
