# One image for every process of ours; the command says which:
#   sentinel-exporter --config FILE | sentinel-webhook serve | sentinel-webhook worker | sentinel-webhook migrate
# The base is pinned by tag. Who needs the same bytes at every build pins its digest:
#   docker build --build-arg PYTHON=python:3.11.13-slim-bookworm@sha256:…
ARG PYTHON=python:3.11.13-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /src
COPY requirements.lock requirements-image.lock ./
# setuptools, which builds our wheel and one library that ships none, is held by its hashes too, and leaves at the end.
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements.lock > build.lock \
    && python -m venv /opt/sentinel \
    && /opt/sentinel/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r build.lock \
    && /opt/sentinel/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --no-deps \
        --no-build-isolation -r requirements-image.lock
COPY pyproject.toml README.md ./
COPY exporter exporter
COPY webhook webhook
COPY docs docs
RUN /opt/sentinel/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation . \
    && /opt/sentinel/bin/pip check \
    && /opt/sentinel/bin/pip uninstall --yes --quiet setuptools pip \
    && find /opt/sentinel/lib -type d -name tests -prune -exec rm -r {} + \
    && rm -r /opt/sentinel/lib/python3.11/site-packages/pyarrow/include

FROM ${PYTHON}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sentinel" \
      org.opencontainers.image.description="Prometheus-native fraud attack alerting for payment merchants" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.13-slim-bookworm"
RUN groupadd --gid 10001 sentinel \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin sentinel
COPY --from=build /opt/sentinel /opt/sentinel
# The root may be read-only: what is written (gunicorn's heartbeats, metrics of several processes, matplotlib's list of
# fonts) goes to /tmp, which wants a tmpfs then. What the exporter keeps for its next start has a folder of its own.
ENV PATH=/opt/sentinel/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    TMPDIR=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    HEALTH_URL=http://127.0.0.1:8080/-/healthy
RUN install -d -o 10001 -g 10001 -m 0700 /var/lib/sentinel-exporter
WORKDIR /tmp
USER 10001:10001
EXPOSE 8000 8080 9101
# Of `serve`; HEALTH_URL for the others: the exporter's port is 8000, the worker's SENTINEL_WORKER_METRICS_PORT.
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=4 \
    CMD ["python", "-c", "import os, urllib.request as u; u.build_opener(u.ProxyHandler({})).open(os.environ['HEALTH_URL'], timeout=4)"]
CMD ["sentinel-webhook", "--help"]
