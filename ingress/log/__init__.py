"""The ingress' access to the log: the commands that it sends, and the events that it waits for."""
