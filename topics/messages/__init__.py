"""All messages on the topics: commands, events, the values in them, and older versions."""
