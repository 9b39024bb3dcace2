# The demo stack in one container, for machines without Debian's packages: `docker compose up`.
FROM debian:12-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends make python3 python3-venv prometheus prometheus-alertmanager \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home sentinel
WORKDIR /sentinel
COPY --chown=sentinel . .
RUN chown sentinel /sentinel
USER sentinel
RUN make .venv/run.stamp && mkdir .run
VOLUME /sentinel/.run
CMD ["make", "run"]
