"""Tests of the pages and the documents that the ingress serves."""
