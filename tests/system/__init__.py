"""Tests of whole systems."""
