"""W3C trace context: begun or continued at the edge, carried in a message's `traceparent`, shown in its log lines."""

from collections.abc import Mapping

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

HEADER = "traceparent"

_ids = RandomIdGenerator()
_propagator = TraceContextTextMapPropagator()


def new_traceparent() -> str:
    """The header of a new trace."""
    return _header(_ids.generate_trace_id())


def continued(traceparent: str | None) -> str:
    """A header of the same trace with a new span; of a new trace when there is none, or it is malformed."""
    trace_id = _trace_id(traceparent)
    return _header(trace_id) if trace_id else new_traceparent()


def extract(headers: Mapping[str, str]) -> str:
    """Continue the trace of a request's headers (lower-case names), or begin one."""
    return continued(headers.get(HEADER))


def inject(headers: dict[str, str], traceparent: str) -> None:
    """Put a trace into the headers of a call."""
    headers[HEADER] = traceparent


def trace_of(traceparent: str | None) -> str | None:
    """The trace's id, 32 hexadecimal digits, for the `trace` of a log line."""
    trace_id = _trace_id(traceparent)
    return f"{trace_id:032x}" if trace_id else None


def _trace_id(traceparent: str | None) -> int:
    context = _propagator.extract({HEADER: traceparent or ""})
    return get_current_span(context).get_span_context().trace_id


def _header(trace_id: int) -> str:
    span = SpanContext(trace_id, _ids.generate_span_id(), is_remote=False, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    carrier: dict[str, str] = {}
    _propagator.inject(carrier, set_span_in_context(NonRecordingSpan(span)))
    return carrier[HEADER]
