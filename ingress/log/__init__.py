"""The ends of the log that the ingress holds: what it writes onto it, and the events that it waits for."""
