# The image of a worker: docker build -t kafka-pipeline .
# It has the shop of this repository. For services of your own: docs/howto/deploying.md
FROM python:3.13-slim AS build
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY pyproject.toml setup.py requirements.lock README.md LICENSE ./
COPY pipeline pipeline
COPY topologies topologies
COPY schemas schemas
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels . \
    && python -m venv /opt/pipeline \
    && /opt/pipeline/bin/pip install --no-cache-dir --constraint requirements.lock \
        "$(ls /wheels/*.whl)[postgres,registry,s3,tracing]"
# The extensions in C are left out of a wheel that cannot build them; an image without them would be slow.
WORKDIR /
RUN /opt/pipeline/bin/python -c "from pipeline.adapters.avro import _native; from pipeline.model.records import _murmur2"

FROM python:3.13-slim
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin pipeline \
    && install --directory --owner=10001 --group=10001 /data
COPY --from=build /opt/pipeline /opt/pipeline
ENV PATH=/opt/pipeline/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PIPELINE_HOME=/data \
    PIPELINE_TOPOLOGY=pipeline.demo.topologies
# By number, so that Kubernetes sees that it is not root.
USER 10001:10001
VOLUME /data
EXPOSE 6066
# Whether it lives, not whether it is ready: some platforms kill what is unhealthy, and a restart cures no lag.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:6066/livez', timeout=5)"]
ENTRYPOINT ["pipeline"]
CMD ["worker", "--port=6066"]
