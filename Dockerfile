# syntax=docker/dockerfile:1
# One image for every service; the command says which. CPU by default;
# `docker build --build-arg DEVICE=gpu .` brings onnxruntime-gpu with its CUDA libraries.
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
ARG DEVICE=cpu
WORKDIR /src
RUN python -m venv /opt/osteon
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
# The dependencies change seldom and take long: a layer of their own, from the list alone.
RUN python -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
        x = p['optional-dependencies']; \
        print(*p['dependencies'], *x['${DEVICE}'], *x['postgres'], *x['otel'], *x['oidc'], sep='\n')" \
        > requirements.txt \
    && /opt/osteon/bin/pip install --no-cache-dir --disable-pip-version-check \
        --constraint constraints.txt --requirement requirements.txt
COPY studies studies
COPY dicom_node dicom_node
COPY reports reports
COPY worker worker
COPY worklist worklist
COPY osteon osteon
COPY training training
COPY benchmarks benchmarks
COPY migrations migrations
COPY models_onnx models_onnx
RUN /opt/osteon/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps .

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="Osteon" \
      org.opencontainers.image.description="A DICOM node that reads radiographs for fractures" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 osteon \
    && useradd --uid 10001 --gid osteon --no-create-home --home-dir /data --shell /usr/sbin/nologin osteon \
    && install --directory --owner=osteon --group=osteon /data
COPY --from=build /opt/osteon /opt/osteon
# In a container the network is the container's: what is published decides who reaches it. Who
# may send stays a setting (sources): nobody but loopback until the site says so.
ENV PATH=/opt/osteon/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OSTEON_DATA_DIR=/data \
    OSTEON_DICOM_HOST=0.0.0.0 \
    OSTEON_WEB_HOST=0.0.0.0
# A number, so that Kubernetes can see for itself that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME ["/data"]
EXPOSE 11112 8080
# SIGTERM drains: no new work is taken, what is in hand is finished or left to another.
STOPSIGNAL SIGTERM
CMD ["osteon", "--help"]
