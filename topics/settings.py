"""How to reach the broker, read from the environment."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from topics.catalogue import Topic


class KafkaSettings(BaseSettings):
    """The broker and our topics on it. Every process reads the same variables."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    kafka_url: str = Field(default="127.0.0.1:9092", description="Bootstrap servers, host:port separated by commas.")
    topic_prefix: str = Field(
        default="", description="Put before every topic and consumer group; several systems can share a broker."
    )
    topic_partitions: int = Field(
        default=12, ge=1, le=1000, description="Partitions of each topic; the number must never change."
    )
    topic_replication: int = Field(default=1, ge=1, description="Replicas of each partition.")
    topic_min_insync_replicas: int = Field(
        default=1, ge=1, description="Replicas that must have a record before it is acknowledged."
    )
    topic_create_time: bool = Field(
        default=False,
        description="Topics keep the producer's timestamps and everything for ever: only to replay a trace.",
    )
    kafka_idempotent: bool = Field(
        default=True, description="Idempotent producer. Off only for a broker that refuses it (Tansu)."
    )

    def topic(self, topic: Topic) -> str:
        """Return the topic's name on this broker."""
        return self.topic_prefix + topic.name

    def group(self, role: str) -> str:
        """Return the consumer group of a role on this broker."""
        return f"{self.topic_prefix}innkeeper-{role}"
