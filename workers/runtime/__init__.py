"""The runtime of every role that reads the log: Faust agent, transport, batch processor, publisher and pauses."""
