# syntax=docker/dockerfile:1
# The sidecar's image: an interpreter, one virtual environment, no shell tools of ours, no package manager for Python.
# Runs as a user without a name or a home, and writes nothing outside the volumes it is given:
#   docker run --read-only --cap-drop ALL -v ./config:/etc/langtrain-sidecar:ro -v state:/var/lib/langtrain-sidecar …

ARG PYTHON=3.13-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
# The environment has no pip of its own; the build stage's installs into it.
RUN python -m venv --without-pip /opt/langtrain-sidecar
COPY requirements.lock ./
RUN pip --python /opt/langtrain-sidecar/bin/python install --no-deps --require-hashes --only-binary :all: -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
COPY interceptors interceptors
COPY detectors detectors
COPY examples/interceptors examples/interceptors
COPY clients/python clients/python
COPY tools/compiled.py tools/compiled.py
# The modules that every call runs through become machine code; the compiler stays in this stage.
RUN apt-get update -qq && apt-get install -qq --no-install-recommends gcc libc6-dev
RUN HATCH_BUILD_HOOK_ENABLE_CUSTOM=true \
    pip --python /opt/langtrain-sidecar/bin/python install --no-deps . ./clients/python \
    && /opt/langtrain-sidecar/bin/python -m compileall -q /opt/langtrain-sidecar/lib

FROM python:${PYTHON}
# The base image brings pip for building; nothing here is built.
RUN pip uninstall --yes --quiet --root-user-action ignore pip setuptools wheel \
    && rm -rf /usr/local/lib/python3.*/ensurepip /root/.cache \
    && mkdir -p /etc/langtrain-sidecar && install -d -o 65532 -g 65532 -m 0700 /var/lib/langtrain-sidecar
COPY --from=build /opt/langtrain-sidecar /opt/langtrain-sidecar
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PATH=/opt/langtrain-sidecar/bin:$PATH
USER 65532:65532
WORKDIR /var/lib/langtrain-sidecar
VOLUME /var/lib/langtrain-sidecar
EXPOSE 8443 8086
STOPSIGNAL SIGTERM
# -P: the working directory is never a place to import from.
ENTRYPOINT ["/opt/langtrain-sidecar/bin/python", "-P", "-m", "sidecar"]
CMD ["serve", "--config", "/etc/langtrain-sidecar/sidecar.yaml"]
