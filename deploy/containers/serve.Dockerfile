# `edgeclf serve` for amd64 and arm64, without torch, which serving does not need:
#
#     docker build -f deploy/containers/serve.Dockerfile -t edgeclf-serve .
#
# The build context is this repository.  The bundles are mounted below /bundles: docs/containers.md.
FROM debian:12.12-slim AS packages
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
WORKDIR /source
COPY constraints.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir --only-binary :all: -c constraints.txt \
        fastapi numpy onnxruntime opencv-python-headless python-multipart pyyaml rich typer uvicorn
COPY pyproject.toml setup.py README.md LICENSE ./
COPY edgeclf edgeclf
COPY deploy/edgeclf_runtime deploy/edgeclf_runtime
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps . \
    && /opt/venv/bin/pip uninstall -y pip setuptools

FROM debian:12.12-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 tini \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 edgeclf \
    && useradd --uid 10001 --gid edgeclf --home-dir /var/cache/edgeclf --shell /usr/sbin/nologin edgeclf \
    && install -d -o edgeclf -g edgeclf /var/cache/edgeclf \
    && install -d /bundles
COPY --from=packages /opt/venv /opt/venv
# Figures of the first start are in /var/cache/edgeclf.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/var/cache/edgeclf \
    XDG_CACHE_HOME=/var/cache \
    XDG_STATE_HOME=/var/cache
WORKDIR /bundles
VOLUME ["/var/cache/edgeclf"]
USER 10001:10001
EXPOSE 8000
LABEL org.opencontainers.image.title="edgeclf serve" \
    org.opencontainers.image.description="Classifies pictures that come by HTTP" \
    org.opencontainers.image.source="https://github.com/edgeclf/edgeclf" \
    org.opencontainers.image.licenses="MIT"
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=4)"]
# tini, as the first process, passes SIGTERM on also while Python starts, and ends what other programs leave behind.
ENTRYPOINT ["tini", "--", "edgeclf", "serve", "--host", "0.0.0.0", "--port", "8000"]
