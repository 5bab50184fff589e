"""The Kafka client of the house: settings, producer, admin requests, reading a log, access rights."""
