"""Tests of the ingress' side of the log: waiting for events, and repeated requests."""
