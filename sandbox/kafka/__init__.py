"""Apache Kafka for the sandbox and the tests: `with Kafka(folder) as kafka: ... kafka.url`.

`SecuredKafka` is the same broker with authentication, and grants each client the rights of the catalogue. `Cluster` is
three brokers, each with a copy of everything.
"""

from sandbox.kafka.broker import Kafka
from sandbox.kafka.cluster import Cluster
from sandbox.kafka.jars import available
from sandbox.kafka.secured import SecuredKafka

__all__ = ["Cluster", "Kafka", "SecuredKafka", "available"]
