# A bundle on a Jetson with JetPack 5, 6 or 7 (L4T r35, r36, r38), whose TensorRT and CUDA are in NVIDIA's image:
#
#     docker build -f jetson.Dockerfile --build-arg BUNDLE=pets.edge -t pets .
#
# with --build-arg BASE=… for another JetPack than 6:
#
#     r35, JetPack 5   nvcr.io/nvidia/l4t-jetpack:r35.4.1
#     r36, JetPack 6   nvcr.io/nvidia/l4t-jetpack:r36.4.0
#     r38, JetPack 7   nvcr.io/nvidia/tensorrt:25.09-py3
#
# Build it on the board, and start it with --runtime nvidia; docs/containers.md says more.
ARG BASE=nvcr.io/nvidia/l4t-jetpack:r36.4.0
FROM ${BASE}
# Ubuntu's OpenCV has GStreamer, which pip's lacks and csi:// needs.
# hadolint ignore=DL3008
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gstreamer1.0-plugins-bad gstreamer1.0-plugins-good python3-numpy python3-opencv python3-paho-mqtt tini tzdata \
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
LABEL org.opencontainers.image.title="edgeclf on a Jetson" \
    org.opencontainers.image.description="Classifies a camera's pictures with one bundle and TensorRT" \
    org.opencontainers.image.source="https://github.com/edgeclf/edgeclf" \
    org.opencontainers.image.licenses="MIT"
# For "run" with "live" on port 8080.  Building the engines of the first start takes minutes.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30m \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]
# tini, as the first process, passes SIGTERM on also while Python starts, and ends what other programs leave behind.
ENTRYPOINT ["tini", "--", "python3", "/opt/bundle.edge"]
CMD ["run", "--config", "/etc/edgeclf/site.json"]
