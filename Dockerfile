# Two images for our processes, each with what its package imports and no more:
#   --target exporter: sentinel-exporter --config FILE
#   --target webhook:  sentinel-webhook serve | sentinel-webhook worker | sentinel-webhook migrate
# The base is pinned by tag. Who needs the same bytes at every build pins its digest:
#   docker build --target webhook --build-arg PYTHON=python:3.11.13-slim-bookworm@sha256:…
ARG PYTHON=python:3.11.13-slim-bookworm

FROM ${PYTHON} AS build-exporter
WORKDIR /src
COPY deploy/image.sh requirements.lock requirements-exporter-image.lock ./
RUN sh image.sh libraries exporter /opt/sentinel
COPY pyproject.toml README.md ./
COPY exporter exporter
RUN sh image.sh package exporter /opt/sentinel

FROM ${PYTHON} AS build-webhook
WORKDIR /src
COPY deploy/image.sh requirements.lock requirements-webhook-image.lock ./
RUN sh image.sh libraries webhook /opt/sentinel
COPY pyproject.toml README.md ./
COPY webhook webhook
COPY docs/runbooks docs/runbooks
RUN sh image.sh package webhook /opt/sentinel

FROM ${PYTHON} AS base
ARG PYTHON
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.description="Prometheus-native fraud attack alerting for payment merchants" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/${PYTHON}"
RUN groupadd --gid 10001 sentinel \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sentinel
# The root may be read-only: what is written goes to /tmp, which wants a tmpfs then.
ENV PATH=/opt/sentinel/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TMPDIR=/tmp
WORKDIR /tmp

FROM base AS exporter
LABEL org.opencontainers.image.title="sentinel-exporter"
COPY --from=build-exporter /opt/sentinel /opt/sentinel
# What it keeps for its next start; wants a volume.
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/sentinel-exporter
USER 10001:10001
EXPOSE 8000
ENV HEALTH_URL=http://127.0.0.1:8000/-/healthy
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['HEALTH_URL'], timeout=4)"]
CMD ["sentinel-exporter", "--help"]

FROM base AS webhook
LABEL org.opencontainers.image.title="sentinel-webhook"
COPY --from=build-webhook /opt/sentinel /opt/sentinel
USER 10001:10001
EXPOSE 8080 9101
# Of `serve`; the worker's port is SENTINEL_WORKER_METRICS_PORT. To /tmp go gunicorn's heartbeats, metrics of several
# processes, and matplotlib's list of fonts.
ENV HEALTH_URL=http://127.0.0.1:8080/-/healthy \
    MPLCONFIGDIR=/tmp/matplotlib
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['HEALTH_URL'], timeout=4)"]
CMD ["sentinel-webhook", "--help"]
