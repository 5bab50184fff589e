"""The read models, against logs of events."""
