"""The language that the rooms of the house speak: commands, events, values, and the topics they travel on."""
