# syntax=docker/dockerfile:1
#
#   docker build --tag chatterbox-server .                        the server on CPU (target `cpu`, the last one)
#   docker build --tag chatterbox-server:cuda --target cuda .     the same server with the CUDA libraries

# ---- The wheel ------------------------------------------------------------------------------------------------------
# Debian 12's glibc is older than that of both runtime bases, and the wheel is abi3: one build serves both targets.
FROM rust:1.95-slim-bookworm AS builder
# Debian keeps only the newest point release of a package, so pinned versions would stop the build within weeks.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends build-essential cmake pkg-config python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements/build.txt requirements/
RUN python3 -m venv /opt/build \
    && /opt/build/bin/pip install --no-cache-dir --require-hashes --requirement requirements/build.txt
COPY Cargo.toml Cargo.lock pyproject.toml README.md LICENSE THIRD_PARTY.md ./
COPY bench bench
COPY rust-tts rust-tts
COPY python python
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    /opt/build/bin/maturin build --release --locked --interpreter /opt/build/bin/python --out /wheels

# ---- CUDA -----------------------------------------------------------------------------------------------------------
# Ubuntu 24.04 for its Python 3.12. The CUDA libraries come with torch; the driver (580 or later) comes from the host,
# through the NVIDIA container toolkit.
FROM ubuntu:24.04 AS cuda
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin chatterbox \
    && python3 -m venv /opt/venv \
    && install --directory --owner=chatterbox --group=chatterbox /app/voices /app/preloaded-voices /app/models
COPY requirements/runtime.txt requirements/chatterbox.txt /tmp/
RUN --mount=type=bind,from=builder,source=/wheels,target=/wheels \
    /opt/venv/bin/pip install --no-cache-dir --require-hashes --requirement /tmp/runtime.txt \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/chatterbox.txt \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
# Weights are downloaded into HF_HOME. What librosa compiles, which `bench` imports with upstream's package, needs a folder.
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility \
    HF_HOME=/app/models \
    HOST=0.0.0.0 \
    PORT=8081 \
    VOICES_DIR=/app/voices \
    PRELOADED_VOICES_DIR=/app/preloaded-voices
WORKDIR /app
USER 10001:10001
VOLUME /app/voices /app/models
EXPOSE 8081
# http.client, because urllib would send the request to a proxy named in the environment. The first start downloads
# the weights, which may well take the ten minutes.
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["chatterbox-server"]

# ---- CPU ------------------------------------------------------------------------------------------------------------
FROM python:3.11-slim-bookworm AS cpu
RUN useradd --uid 10001 --user-group --create-home --shell /usr/sbin/nologin chatterbox \
    && python -m venv /opt/venv \
    && install --directory --owner=chatterbox --group=chatterbox /app/voices /app/preloaded-voices /app/models
COPY requirements/runtime.txt requirements/chatterbox.txt /tmp/
# The torch of the lock file brings 4 GB of CUDA libraries, and cannot be imported without them. So the same version
# comes from where it is built for CPUs, and what was locked for CUDA is left out.
RUN --mount=type=bind,from=builder,source=/wheels,target=/wheels \
    sed -nE 's/^((torch|torchaudio)==[^ ]+).*/\1/p' /tmp/chatterbox.txt > /tmp/torch.txt \
    && awk '/^[^ #]/ { kept = !/^((torch|torchaudio|triton)==|nvidia-|cuda-)/ } kept' /tmp/chatterbox.txt > /tmp/rest.txt \
    && /opt/venv/bin/pip install --no-cache-dir --require-hashes --requirement /tmp/runtime.txt \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --requirement /tmp/torch.txt \
        --index-url https://download.pytorch.org/whl/cpu \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --require-hashes --requirement /tmp/rest.txt \
    && /opt/venv/bin/pip install --no-cache-dir --no-deps --no-index /wheels/*.whl
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/tmp/numba \
    HF_HOME=/app/models \
    HOST=0.0.0.0 \
    PORT=8081 \
    VOICES_DIR=/app/voices \
    PRELOADED_VOICES_DIR=/app/preloaded-voices
WORKDIR /app
USER 10001:10001
VOLUME /app/voices /app/models
EXPOSE 8081
HEALTHCHECK --interval=10s --timeout=5s --start-period=600s --retries=3 \
    CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['PORT']), timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["chatterbox-server"]
