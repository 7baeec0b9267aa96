# A bundle with Python, OpenCV and ONNX Runtime, for amd64 and arm64 processors without a GPU:
#
#     docker build -f device.Dockerfile --build-arg BUNDLE=pets.edge -t pets .
#
# The build context is the folder that holds the bundle, which brings its own runtime.  docs/containers.md says how to start it.
FROM debian:12.12-slim AS packages
# Versions of Debian's packages are not pinned: a stable release only changes them to fix them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --only-binary :all: \
        numpy==2.4.6 \
        onnxruntime==1.32.0 \
        opencv-python-headless==5.0.0.93 \
        paho-mqtt==2.2.0 \
    && /opt/venv/bin/pip uninstall -y pip setuptools

FROM debian:12.12-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 tini tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 edgeclf \
    && useradd --uid 10001 --gid edgeclf --groups video --home-dir /var/lib/edgeclf --shell /usr/sbin/nologin edgeclf \
    && install -d -o edgeclf -g edgeclf /var/lib/edgeclf /var/cache/edgeclf
COPY --from=packages /opt/venv /opt/venv
# Figures of the first start are in /var/cache/edgeclf; what must not be lost, and relative paths, in /var/lib/edgeclf.
ENV PATH=/opt/venv/bin:$PATH \
    HOME=/var/lib/edgeclf \
    XDG_CACHE_HOME=/var/cache \
    XDG_STATE_HOME=/var/lib
WORKDIR /var/lib/edgeclf
VOLUME ["/var/cache/edgeclf", "/var/lib/edgeclf"]
ARG BUNDLE=pets.edge
COPY ${BUNDLE} /opt/bundle.edge
USER 10001:10001
EXPOSE 8080
LABEL org.opencontainers.image.title="edgeclf device" \
    org.opencontainers.image.description="Classifies a camera's pictures with one bundle" \
    org.opencontainers.image.source="https://github.com/edgeclf/edgeclf" \
    org.opencontainers.image.licenses="MIT"
# For "run" with "live" on port 8080: unhealthy while the camera is lost or silent.
HEALTHCHECK --interval=30s --timeout=5s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
# tini, as the first process, passes SIGTERM on also while Python starts, and ends what other programs leave behind.
ENTRYPOINT ["tini", "--", "python3", "/opt/bundle.edge"]
CMD ["run", "--config", "/etc/edgeclf/site.json"]
