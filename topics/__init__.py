"""The messages between the parts of the system: commands, events, values, and the topics that carry them."""
