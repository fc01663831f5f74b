"""Spans of what a function does, told by OTLP where that is configured, and the trace of a request handed on.

The variables are OpenTelemetry's own; without an endpoint in them nothing of it is imported and a span is nothing. The
trace that a request came with (W3C Trace Context) is handed on all the same. Where a span is, and what it is below, is
kept by context, as log fields are. Attributes have ids, sizes and outcomes; never code, outputs, file names or keys.

Only `configure` touches global state, and only a process's entry point calls it.
"""

import contextlib
import re
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Literal

from caesarion.errors import CaesarionError, ConfigError

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

Kind = Literal["internal", "server", "client", "producer"]
Attribute = str | int | float | bool

ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
HEADERS = ("traceparent", "tracestate")
TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in a trace something happens: in a span of ours, or below the one that these headers name."""

    span: "OtelSpan | None" = None
    headers: Mapping[str, str] | None = None


_NOWHERE = _Place()
_place: ContextVar[_Place] = ContextVar("caesarion_trace", default=_NOWHERE)
_tracer: "Tracer | None" = None


class Span:
    """Something that takes time. Without a tracer it is told to nobody. Whoever starts one ends it."""

    __slots__ = ("_place", "_span")

    def __init__(self, span: "OtelSpan | None", place: _Place) -> None:
        self._span = span
        self._place = place

    def set(self, attributes: Mapping[str, Attribute | None]) -> None:
        """Add what is known by now; None is not known."""
        if self._span is not None:
            self._span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def name(self, name: str) -> None:
        """Call it something else."""
        if self._span is not None:
            self._span.update_name(name)

    def event(self, name: str) -> None:
        """Say that something happened now."""
        if self._span is not None:
            self._span.add_event(name)

    def fail(self, code: str) -> None:
        """Say that it failed, and how that is called; not of one that is over."""
        if self._span is not None and self._span.is_recording():
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR, code)
            self._span.set_attribute("error.type", code)

    def end(self) -> None:
        """Let it be over. Idempotent."""
        if self._span is not None and self._span.is_recording():
            self._span.end()

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        """Have what begins inside the block be below this span."""
        token = _place.set(self._place)
        try:
            yield
        finally:
            _place.reset(token)


NO_SPAN = Span(None, _NOWHERE)


def start(
    name: str,
    attributes: Mapping[str, Attribute | None] = _NOTHING,
    *,
    kind: Kind = "internal",
    parent: Mapping[str, str] | None = None,
) -> Span:
    """Return a span that began now, below the current one, or below the one that the headers of `parent` name."""
    place = _Place(headers=parent) if parent is not None else _place.get()
    if _tracer is None:
        return Span(None, place)
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    if place.span is not None:
        above = trace.set_span_in_context(place.span, context.Context())
    else:
        above = TraceContextTextMapPropagator().extract(place.headers or {}, context.Context())
    span = _tracer.start_span(name, above, trace.SpanKind[kind.upper()])
    started = Span(span, _Place(span, place.headers))
    started.set(attributes)
    return started


@contextlib.contextmanager
def span(
    name: str,
    attributes: Mapping[str, Attribute | None] = _NOTHING,
    *,
    kind: Kind = "internal",
    parent: Mapping[str, str] | None = None,
) -> Iterator[Span]:
    """Have a span as long as the block lasts, with all that begins in it below. What the block raises is its failure.

    Not for the body of a generator: who reads from that would be in the span as well.
    """
    started = start(name, attributes, kind=kind, parent=parent)
    try:
        with started.current():
            yield started
    except BaseException as error:
        started.fail(code_of(error))
        raise
    finally:
        started.end()


def handed_on() -> dict[str, str]:
    """Return the headers that name the current span, or what the request came with; empty outside of any trace."""
    place = _place.get()
    if place.span is None:
        return dict(place.headers or {})
    from opentelemetry import context, trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    headers: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(headers, trace.set_span_in_context(place.span, context.Context()))
    return headers


def code_of(error: BaseException) -> str:
    """Return how a failure is called."""
    return error.code if isinstance(error, CaesarionError) else type(error).__name__


def trace_of(headers: Mapping[str, str]) -> str:
    """Return the trace's id that headers name, empty when they name none."""
    found = TRACEPARENT.fullmatch(headers.get("traceparent", ""))
    return found[1] if found is not None else ""


def configure(env: Mapping[str, str]) -> None:
    """Tell spans to the endpoint of `env`, if it names one, from now on. Raises ConfigError when that cannot be.

    A process that is told to end with SIGTERM tells those that wait first.
    """
    if not any(env.get(name) for name in ENDPOINTS):
        return
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError as error:
        raise ConfigError(
            f"{' or '.join(ENDPOINTS)} is set, but {error.name} is not installed. Install caesarion[traces], or leave "
            "the variable out."
        ) from error
    protocol = env.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL") or env.get("OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in (None, "", "http/protobuf"):
        raise ConfigError(f"Traces are sent as http/protobuf only; OTEL_EXPORTER_OTLP_PROTOCOL is {protocol!r}.")
    _tell_to(OTLPSpanExporter(), env)
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _ended)  # servers give it back when they have closed, and SIG_DFL flushes nothing


def _tell_to(exporter: "SpanExporter", env: Mapping[str, str]) -> None:
    """Tell spans to an exporter from now on."""
    global _tracer
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    resource = Resource.create()
    if not env.get("OTEL_SERVICE_NAME"):
        resource = resource.merge(Resource({"service.name": env.get("K_SERVICE") or "caesarion"}))
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _tracer = provider.get_tracer("caesarion")


def _ended(signum: int, frame: FrameType | None) -> None:
    sys.exit(128 + signum)
