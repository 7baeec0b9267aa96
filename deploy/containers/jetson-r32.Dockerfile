# A bundle on a Jetson with JetPack 4 (L4T r32, Python 3.6), such as the Nano:
#
#     docker build -f jetson-r32.Dockerfile --build-arg BUNDLE=pets.edge -t pets .
#
# Build it on the board, and start it with --runtime nvidia, which mounts the board's own TensorRT and CUDA into the
# container.  docs/containers.md says more.
FROM nvcr.io/nvidia/l4t-base:r32.7.1
# Ubuntu 18.04's OpenCV is 3.2: JetPack's own, 4.1.1 with GStreamer, comes from NVIDIA's packages.
# hadolint ignore=DL3008
RUN rm -f /etc/apt/sources.list.d/cuda.list \
    && apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates gnupg \
    && apt-key adv --fetch-keys https://repo.download.nvidia.com/jetson/jetson-ota-public.asc \
    && echo "deb https://repo.download.nvidia.com/jetson/common r32.7 main" > /etc/apt/sources.list.d/jetson.list \
    && apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        gstreamer1.0-plugins-bad gstreamer1.0-plugins-good libopencv-python python3-numpy python3-paho-mqtt tzdata \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -c "import cv2, numpy" \
    && groupadd --gid 10001 edgeclf \
    && useradd --uid 10001 --gid edgeclf --groups video --home-dir /var/lib/edgeclf --shell /usr/sbin/nologin edgeclf \
    && install -d -o edgeclf -g edgeclf /var/lib/edgeclf /var/cache/edgeclf
# Engines are in /var/cache/edgeclf; what must not be lost, and relative paths, in /var/lib/edgeclf.
ENV HOME=/var/lib/edgeclf \
    XDG_CACHE_HOME=/var/cache \
    XDG_STATE_HOME=/var/lib
WORKDIR /var/lib/edgeclf
VOLUME ["/var/cache/edgeclf", "/var/lib/edgeclf"]
ARG BUNDLE=pets.edge
COPY ${BUNDLE} /opt/bundle.edge
USER 10001:10001
EXPOSE 8080
LABEL org.opencontainers.image.title="edgeclf on a Jetson with JetPack 4" \
    org.opencontainers.image.description="Classifies a camera's pictures with one bundle and TensorRT" \
    org.opencontainers.image.source="https://github.com/edgeclf/edgeclf" \
    org.opencontainers.image.licenses="MIT"
# For "run" with "live" on port 8080.  Building the engines of the first start takes minutes.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30m \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
ENTRYPOINT ["python3", "/opt/bundle.edge"]
CMD ["run", "--config", "/etc/edgeclf/site.json"]
