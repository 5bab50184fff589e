"""The settings of metrics, logs and traces, read from the environment."""

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from topics.secret_files import SECRETS


class TelemetrySettings(BaseSettings):
    """Metrics, logs and traces. Every process reads the same variables."""

    model_config = SettingsConfigDict(env_file=".env", secrets_dir=SECRETS, extra="ignore", frozen=True)

    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="The port at which Prometheus reads this process's metrics; 0 takes a free one, none is off.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="The address of that port.")
    log_format: Literal["json", "console"] = Field(
        default="json", description="`json` (an object a line) or `console` (for people)."
    )
    otel_exporter_otlp_endpoint: str | None = Field(
        default=None,
        description="An OpenTelemetry collector, as http://host:4318, that takes traces; without one there are none.",
    )
    otel_traces_sampler_arg: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="The share of traces begun here that is kept; for others, the process that began them decides.",
    )

    @field_validator("metrics_port", "otel_exporter_otlp_endpoint", mode="before")
    @classmethod
    def _empty_is_none(cls, value: object) -> object:
        return None if value == "" else value

    @model_validator(mode="after")
    def _the_collector_is_an_address(self) -> Self:
        address = self.otel_exporter_otlp_endpoint
        if address is not None and not address.startswith(("http://", "https://")):
            raise ValueError("OTEL_EXPORTER_OTLP_ENDPOINT is not an address such as http://127.0.0.1:4318.")
        return self
