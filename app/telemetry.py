"""The log and the tracer of one process, whichever it is. Handed to Ray as a function."""

import atexit

from app.logs import Logs
from app.otel_tracing import make_tracer
from app.telemetry_config import TelemetrySettings
from contracts.tracing import Tracer


def start_telemetry(settings: TelemetrySettings, process: str) -> Tracer:
    """Start the log of this process, for as long as it lives, and make its tracer."""
    atexit.register(Logs(settings.log, process).close)
    return make_tracer(settings.tracing, f"flora-{process}")
