# flora-serve on CPUs. From the root of the repository:
#   docker build -f k8s/cpu.Dockerfile -t flora-serve:0.1.0-cpu .
# Bases are pinned by version; a mirror of yours can pin them by digest, too:
#   --build-arg BASE=registry.example.org/python:3.11.14-slim-bookworm@sha256:...
ARG BASE=python:3.11.14-slim-bookworm

FROM ${BASE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /build
# The image's root may be read-only: what a process would compile at every start, it brings along.
ENV UV_COMPILE_BYTECODE=1
# hadolint ignore=DL3008,SC2016
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*
COPY requirements requirements
RUN python -m venv /opt/flora && requirements/install.sh /opt/flora requirements/cpu.txt
COPY . .
RUN /opt/flora/bin/uv pip install --python /opt/flora/bin/python --no-deps --no-build-isolation .

FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The kernel is compiled for the processor that it finds (g++), vLLM asks for libnuma.
# hadolint ignore=DL3008,SC2016
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 1000 flora \
    && useradd --uid 1000 --gid 1000 --home-dir /cache --create-home flora \
    && mkdir /models \
    && echo 'PATH=/opt/flora/bin:$PATH' >/etc/profile.d/flora.sh
COPY --from=build /opt/flora /opt/flora
# The root may be read-only: /cache, /tmp and /dev/shm are written.
ENV PATH=/opt/flora/bin:${PATH} \
    HOME=/cache \
    XDG_CACHE_HOME=/cache \
    HF_HOME=/cache/huggingface \
    TORCHINDUCTOR_CACHE_DIR=/cache/inductor \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    VLLM_NO_USAGE_STATS=1
WORKDIR /cache
USER 1000:1000
CMD ["flora", "--help"]
