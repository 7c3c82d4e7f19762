"""/metrics, in the words of Prometheus: read from SQL and Redis when it is asked for, at most every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from starlette.responses import Response

from scheduler.engine.answers.metrics import Distribution, Metrics, Standing
from scheduler.web.callers import Viewer

router = APIRouter(include_in_schema=False)

KEPT_SECONDS = 3.0  # several who ask at once cost one look
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/metrics")
def metrics(request: Request, caller: Viewer) -> Response:
    collector: MetricsCollector = request.app.state.metrics
    return Response(collector.text(), media_type=CONTENT_TYPE)


class MetricsCollector(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self._lock = threading.Lock()
        self._looked_at = -KEPT_SECONDS
        self._text = b""

    def text(self) -> bytes:
        with self._lock:
            if time.monotonic() - self._looked_at >= KEPT_SECONDS:
                self._text = generate_latest(self._registry)
                self._looked_at = time.monotonic()
            return self._text

    def describe(self) -> Iterable[Metric]:
        return ()  # or registering would ask SQL

    def collect(self) -> Iterator[Metric]:
        standing = self._metrics.look()
        yield from self._ends()
        yield from _tasks(standing)
        yield from _parts(standing)
        yield from _rest(standing)

    def _ends(self) -> Iterator[Metric]:
        counting = self._metrics.counting
        ended = CounterMetricFamily(
            "scheduler_tasks_ended",
            "Tasks that ended since this was first asked for.",
            labels=["schedule", "kind", "state"],
        )
        for labels, number in sorted(counting.ends.items()):
            ended.add_metric(list(labels), number)
        yield ended
        yield _histogram(
            "scheduler_start_lateness_seconds", "From due to the start of a first attempt.", counting.lateness
        )
        yield _histogram("scheduler_duration_seconds", "From the first start to the end.", counting.durations)


def _tasks(standing: Standing) -> Iterator[Metric]:
    unfinished = GaugeMetricFamily("scheduler_tasks", "Tasks that have not ended.", labels=["kind", "state"])
    for labels, number in sorted(standing.tasks.items()):
        unfinished.add_metric(list(labels), number)
    yield unfinished
    yield _gauge("scheduler_queue_depth", "Tasks that are due and have not started.", "queue", standing.depths)
    yield _gauge("scheduler_queue_oldest_seconds", "Since the oldest of them was due.", "queue", standing.oldest)
    yield _gauge("scheduler_queue_jobs", "Jobs that wait in Redis.", "queue", standing.jobs)


def _parts(standing: Standing) -> Iterator[Metric]:
    backends = {"sql": standing.sql, "redis": standing.redis}
    yield _gauge("scheduler_backend_up", "Whether it answers.", "backend", backends)
    yield _gauge("scheduler_part_tick_age_seconds", "Since one of the kind moved.", "part", standing.ticks)
    yield _gauge("scheduler_parts_alive", "How many of the kind move.", "part", standing.alive)
    yield _gauge("scheduler_keeper_step_age_seconds", "Since a keeper got through it.", "step", standing.steps)


def _rest(standing: Standing) -> Iterator[Metric]:
    yield _gauge("scheduler_schedules", "Schedules in force.", "state", standing.schedules)
    for name, about, value in (
        ("scheduler_schedules_failing", "Schedules whose last run failed for good.", standing.failing),
        ("scheduler_outbox_waiting", "Mails and hooks that wait to be sent.", standing.mails),
        ("scheduler_outbox_oldest_seconds", "Since the oldest of them was queued.", standing.oldest_mail),
        ("scheduler_outbox_given_up", "Mails and hooks that were given up.", standing.mails_given_up),
        ("scheduler_alerts_open", "What has been told to be wrong and is not over.", standing.alerts),
        ("scheduler_files_refused", "Schedule files with faults.", standing.files_refused),
    ):
        yield GaugeMetricFamily(name, about, value=float(value))


def _gauge(name: str, about: str, label: str, values: Mapping[str, Any]) -> Metric:
    gauge = GaugeMetricFamily(name, about, labels=[label])
    for value, number in sorted(values.items()):
        gauge.add_metric([value], float(number))
    return gauge


def _histogram(name: str, about: str, found: Mapping[str, Distribution]) -> Metric:
    histogram = HistogramMetricFamily(name, about, labels=["kind"])
    for kind, one in found.items():
        buckets = [(str(bound), below) for bound, below in zip(one.bounds, one.below, strict=True)]
        histogram.add_metric([kind], [*buckets, ("+Inf", one.count)], one.total)
    return histogram
