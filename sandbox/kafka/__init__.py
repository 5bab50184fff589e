"""Apache Kafka for the sandbox and the tests: `with Kafka(folder) as kafka: ... kafka.url`."""

from sandbox.kafka.broker import Kafka
from sandbox.kafka.jars import available

__all__ = ["Kafka", "available"]
