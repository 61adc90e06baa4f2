from bursar.service.observability.tracing import continued, extract, inject, new_traceparent, trace_of

GIVEN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_a_trace_is_continued_with_a_span_of_its_own() -> None:
    ours = continued(GIVEN)
    assert trace_of(ours) == trace_of(GIVEN) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert ours != GIVEN


def test_without_a_readable_trace_a_new_one_begins() -> None:
    begun = {
        trace_of(continued(malformed)) for malformed in (None, "", "00-xyz", "00-" + "0" * 32 + "-" + "0" * 16 + "-01")
    }
    assert len(begun) == 4
    assert None not in begun


def test_a_trace_survives_the_headers_of_a_call() -> None:
    traceparent = new_traceparent()
    headers: dict[str, str] = {}
    inject(headers, traceparent)
    assert trace_of(extract(headers)) == trace_of(traceparent)


def test_no_trace_is_read_from_garbage() -> None:
    assert trace_of("garbage") is None
