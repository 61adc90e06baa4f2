from prometheus_client import generate_latest

from bursar.service.observability.metrics import Metrics


def test_every_process_part_may_have_metrics_of_its_own() -> None:
    first, second = Metrics(), Metrics()
    first.webhooks.labels(answer="200").inc()
    assert 'bursar_webhooks_total{answer="200"} 1.0' in generate_latest(first.registry).decode()
    assert 'answer="200"' not in generate_latest(second.registry).decode()
