"""Metrics, logs and traces of every process. No booking depends on any of them."""

import logging
import os
import sys
from typing import TYPE_CHECKING

from telemetry import metrics, traces

if TYPE_CHECKING:
    # A short command imports this package and needs no settings of it, whose class takes long to make.
    from telemetry.settings import TelemetrySettings

log = logging.getLogger(__name__)


def start(settings: "TelemetrySettings", part: str, name: str) -> None:
    """Configure logs, metrics and traces of this process: `part` is its kind, `name` the name of this one.

    Writes the first line of the log. Ends the process with a sentence when the metrics' port is in use.
    """
    # Only long-running processes need structlog and the time zones.
    from telemetry import logs  # noqa: PLC0415 - as the comment explains
    from topics.zones import ZONE_DATA_VERSION  # noqa: PLC0415 - as the comment explains

    logs.configure(settings.log_format, part, name)
    log.info("%s starts as %s; hotels' time zones are those of tzdata %s", part, name, ZONE_DATA_VERSION)
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
