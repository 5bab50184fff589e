"""Tests of analysts' work with the log: exports, and the questions that docs/analytics.md answers."""
