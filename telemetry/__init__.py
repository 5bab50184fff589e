"""Metrics, logs and traces of every process. No booking depends on any of them."""

import os
import sys
from typing import TYPE_CHECKING

from telemetry import metrics, traces

if TYPE_CHECKING:
    # A short command imports this package and needs no settings of it, whose class takes long to make.
    from telemetry.settings import TelemetrySettings


def start(settings: "TelemetrySettings", part: str, name: str) -> None:
    """Configure logs, metrics and traces of this process: `part` is its kind, `name` the name of this one.

    Ends the process with a sentence when the metrics' port is in use.
    """
    from telemetry import logs  # noqa: PLC0415 - only long-running processes need structlog

    logs.configure(settings.log_format, part, name)
    metrics.INFO.set(1, part, name)
    metrics.are_read = settings.metrics_port is not None
    serve_metrics(settings, part)
    if settings.otel_exporter_otlp_endpoint is not None:
        traces.start(settings.otel_exporter_otlp_endpoint, settings.otel_traces_sampler_arg, part, name)


def serve_metrics(settings: "TelemetrySettings", part: str) -> None:
    """Answer Prometheus, if a port is set. Ends the process with a sentence when it is in use."""
    if settings.metrics_port is None:
        return
    from telemetry.scraped import serve  # noqa: PLC0415 - only a process that is scraped needs it

    try:
        serve(part, settings.metrics_host, settings.metrics_port)
    except OSError as error:
        sys.stderr.write(f"METRICS_PORT={settings.metrics_port}: {os.strerror(error.errno or 0)}.\n")
        sys.exit(os.EX_CONFIG)
