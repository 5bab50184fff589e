"""Metrics, logs and traces of every process, beside a booking's way and never in it."""

import os
import sys

from telemetry import metrics, traces
from telemetry.settings import TelemetrySettings


def start(settings: TelemetrySettings, part: str, name: str) -> None:
    """Start logs, metrics and traces as the settings want them: `part` is the process's role, `name` its own name.

    Ends the process with a sentence when another process has the metrics' port.
    """
    from telemetry import logs  # noqa: PLC0415 - structlog is only for processes that stay

    logs.configure(settings.log_format, part, name)
    metrics.INFO.set(1, part, name)
    metrics.are_read = settings.metrics_port is not None
    serve_metrics(settings, part)
    if settings.otel_exporter_otlp_endpoint is not None:
        traces.start(settings.otel_exporter_otlp_endpoint, settings.otel_traces_sampler_arg, part, name)


def serve_metrics(settings: TelemetrySettings, part: str) -> None:
    """Answer Prometheus, if there is a port for it. Ends the process with a sentence when another process has it."""
    if settings.metrics_port is None:
        return
    from telemetry.scraped import serve  # noqa: PLC0415 - only for processes that are scraped

    try:
        serve(part, settings.metrics_host, settings.metrics_port)
    except OSError as error:
        sys.stderr.write(f"METRICS_PORT={settings.metrics_port}: {os.strerror(error.errno or 0)}.\n")
        sys.exit(os.EX_CONFIG)
