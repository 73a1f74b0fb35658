# A node with NVIDIA GPUs: fleetbench in a Python of its own, each engine in another, so that none sees what another
# pins.
#   docker build -f infra/images/cuda.Dockerfile -t fleetbench-node-cuda .
# A tag moves. Pin the base by what `docker buildx imagetools inspect nvidia/cuda:TAG` prints as its digest:
#   docker build --build-arg BASE=nvidia/cuda@sha256:DIGEST ...
ARG BASE=nvidia/cuda:13.0.2-cudnn-devel-ubuntu24.04
FROM ${BASE}
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

# devel and not runtime: engines compile kernels when they start. wget: KubeRay's health checks. tini: an init that
# reaps what engines leave; their guards are orphans on purpose.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc g++ python3-dev python3-venv rsync tini wget \
    && rm -rf /var/lib/apt/lists/*

# A layer for each engine, the largest first: another version of one builds that layer and those after it again.
ARG VLLM=0.33.0
RUN python3 -m venv /opt/engines/vllm \
    && /opt/engines/vllm/bin/pip install --no-cache-dir "vllm==${VLLM}"
ARG SGLANG=0.5.23
RUN python3 -m venv /opt/engines/sglang \
    && /opt/engines/sglang/bin/pip install --no-cache-dir "sglang==${SGLANG}"

COPY pyproject.toml README.md LICENSE constraints.txt /opt/fleetbench-src/
COPY fleetbench /opt/fleetbench-src/fleetbench
COPY collectors /opt/fleetbench-src/collectors
COPY warehouse /opt/fleetbench-src/warehouse
COPY matrices /opt/fleetbench-src/matrices
# ray[default]: the dashboard and its agent, which jobs and KubeRay need. The links: whoever starts this image by a
# login shell gets the system's PATH.
RUN python3 -m venv /opt/fleetbench \
    && PIP_CONSTRAINT=/opt/fleetbench-src/constraints.txt /opt/fleetbench/bin/pip install --no-cache-dir \
        "/opt/fleetbench-src[hub]" "ray[default]>=2.60,<2.61" \
    && ln -s /opt/fleetbench/bin/fleetbench /opt/fleetbench/bin/ray /usr/local/bin/ \
    && rm -rf /opt/fleetbench-src
COPY infra/images/node-cuda.yaml /etc/fleetbench/node.yaml

# A number, because Kubernetes checks `runAsNonRoot` by it.
RUN useradd --uid 10001 --create-home --home-dir /home/fleetbench --shell /bin/bash fleetbench \
    && install -d -o fleetbench -g fleetbench /warehouse /home/fleetbench/.cache/fleetbench
ENV FLEETBENCH_NODE=/etc/fleetbench/node.yaml \
    FLEETBENCH_CACHE=/home/fleetbench/.cache/fleetbench \
    RAY_AUTH_MODE=token \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_worker_niceness=0
WORKDIR /home/fleetbench
USER 10001
ENTRYPOINT ["/usr/bin/tini", "--", "/opt/fleetbench/bin/fleetbench"]
CMD ["node", "check"]
