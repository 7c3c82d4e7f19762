# Two stages: the first may have build tools and the network, the second holds only what runs.
# Pin both by digest where you build (docker buildx imagetools inspect python:3.12-slim-bookworm).
FROM python:3.12-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# Without a pip of its own, which nothing needs at run time: that of this stage installs into it.
RUN python -m venv --without-pip /opt/rq-schedules
WORKDIR /src

# The locked libraries are a layer of their own, which a change of our code leaves as it is.
COPY requirements.lock ./
RUN pip --python /opt/rq-schedules install --require-hashes -r requirements.lock

# Without isolation, so that the build backend is the one the lock names by hash.
COPY pyproject.toml README.md ./
COPY scheduler/ scheduler/
COPY tasks/ tasks/
RUN pip --python /opt/rq-schedules install --no-deps --no-build-isolation .


FROM python:3.12-slim-bookworm

# A number, so that Kubernetes' runAsNonRoot can judge it; high, so that it is nobody's on the host.
RUN groupadd --gid 10001 scheduler \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /data --shell /usr/sbin/nologin scheduler \
    && install --directory --owner 10001 --group 10001 --mode 0750 /data

COPY --from=build /opt/rq-schedules /opt/rq-schedules
WORKDIR /app
# tasks/ stands here too and is found before the installed one, so that your own can be mounted over it.
COPY tasks/ tasks/
COPY config/ config/
# README.md too, whose words the first of the sample schedules counts.
COPY schedules.yaml README.md ./

# No bytecode is written at run time: the root file system may be read-only.
ENV PATH=/opt/rq-schedules/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SCHEDULER_DATA=/data

USER 10001:10001
VOLUME /data
# The web page; it listens on 127.0.0.1 until SCHEDULER_WEB_ADDRESS says otherwise, which needs `scheduler user add`.
EXPOSE 8080

# Docker's own default, written down because a warm stop hangs on it: workers end their job first. Give them the time
# (docker stop --time, stop_grace_period); after it comes SIGKILL, and reconcile finds the attempt lost.
STOPSIGNAL SIGTERM

# `status`, not `doctor`: it is one glance (SQL, Redis, last tick of each part), while doctor's queries judge the whole
# history, and no restart mends a row. Its 1 says that tasks fail or are late, a part is silent or Redis is away, which a
# restart of this container does not mend either: only 3, when SQL is away, makes it unhealthy. A part that dies ends it.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["sh", "-c", "scheduler status --json > /dev/null || [ $? -eq 1 ]"]

ENTRYPOINT ["scheduler"]
CMD ["up"]
