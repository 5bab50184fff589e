"""What every role runs on: the Faust agent, the transport, the batch processor, the publisher, backoff and pauses."""
