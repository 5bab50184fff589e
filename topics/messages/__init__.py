"""Every message that travels on a topic: commands, events, the values in them, and older versions of them."""
