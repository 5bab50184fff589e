"""Tests of search and of hotels' public descriptions."""
