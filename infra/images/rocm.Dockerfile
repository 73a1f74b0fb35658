# A node with AMD GPUs: fleetbench in a Python of its own, each engine in another, so that none sees what another
# pins.
#   docker build -f infra/images/rocm.Dockerfile -t fleetbench-node-rocm --build-arg PIP_EXTRA_INDEX_URL=... .
# PIP_EXTRA_INDEX_URL: where vLLM's and torch's wheels for ROCm are; what PyPI has of that name is for CUDA, and the
# build ends where torch turns out to be that one.
# A tag moves. Pin the base by what `docker buildx imagetools inspect rocm/dev-ubuntu-24.04:TAG` prints as its digest:
#   docker build --build-arg BASE=rocm/dev-ubuntu-24.04@sha256:DIGEST ...
ARG BASE=rocm/dev-ubuntu-24.04:7.0-complete
FROM ${BASE}
USER root
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]

RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc g++ python3-dev python3-venv rsync tini wget \
    && rm -rf /var/lib/apt/lists/*

ARG VLLM=0.33.0
ARG PIP_EXTRA_INDEX_URL=
RUN python3 -m venv /opt/engines/vllm \
    && /opt/engines/vllm/bin/pip install --no-cache-dir "vllm==${VLLM}" \
    && /opt/engines/vllm/bin/python -c 'import torch; assert torch.version.hip, "torch is not built for ROCm"'

COPY pyproject.toml README.md LICENSE constraints.txt /opt/fleetbench-src/
COPY fleetbench /opt/fleetbench-src/fleetbench
COPY collectors /opt/fleetbench-src/collectors
COPY warehouse /opt/fleetbench-src/warehouse
COPY matrices /opt/fleetbench-src/matrices
# amdsmi, AMD SMI's own Python, comes with ROCm and not with PyPI: the devices and their power are read by it.
RUN python3 -m venv /opt/fleetbench \
    && PIP_CONSTRAINT=/opt/fleetbench-src/constraints.txt /opt/fleetbench/bin/pip install --no-cache-dir \
        "/opt/fleetbench-src[hub]" "ray[default]>=2.60,<2.61" /opt/rocm/share/amd_smi \
    && ln -s /opt/fleetbench/bin/fleetbench /opt/fleetbench/bin/ray /usr/local/bin/ \
    && rm -rf /opt/fleetbench-src
COPY infra/images/node-rocm.yaml /etc/fleetbench/node.yaml

# /dev/kfd and /dev/dri belong to groups whose numbers differ by machine: they are given when the container is started.
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
