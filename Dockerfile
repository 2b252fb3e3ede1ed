# Two images from one file: `docker build --target probe …` and `docker build --target operator …`.
# BASE is any image with Python 3.13 or later, pip and venv at the same paths in build and run; the tests bring their own.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS wheel
COPY constraints/constraints.txt /src/constraints/constraints.txt
RUN python3 -m venv /tools \
 && /tools/bin/pip install --quiet --no-cache-dir --constraint /src/constraints/constraints.txt hatchling
COPY pyproject.toml README.md LICENSE /src/
COPY probe /src/probe
COPY operator /src/operator
RUN /tools/bin/pip wheel --quiet --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels /src

# Each image is BASE, a layer of pinned dependencies that a change of the sources leaves alone, and a small one of our own.
# The pod has what smtpprobe.pod imports and no more: it starts faster and has less to attack.
FROM ${BASE} AS probe-dependencies
COPY constraints/constraints.txt /src/constraints.txt
RUN python3 -m venv --without-pip /app \
 && python3 -m pip --python /app/bin/python3 install --quiet --no-cache-dir --constraint /src/constraints.txt \
    aiosmtplib cryptography msgspec

FROM probe-dependencies AS probe-own
COPY --from=wheel /wheels /wheels
RUN python3 -m pip --python /app/bin/python3 install --quiet --no-cache-dir --no-deps --prefix /own /wheels/*.whl \
 && rm -r /own/lib/python3*/site-packages/smtpprobe_operator

FROM ${BASE} AS probe
COPY --from=probe-dependencies /app /app
COPY --from=probe-own /own /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /
ENTRYPOINT ["python3", "-m", "smtpprobe.pod"]

FROM ${BASE} AS operator-dependencies
COPY constraints/constraints.txt pyproject.toml /src/
RUN python3 -m venv --without-pip /app \
 && python3 -c "import tomllib; p = tomllib.load(open('/src/pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['operator'], sep='\n')" > /src/requirements.txt \
 && python3 -m pip --python /app/bin/python3 install --quiet --no-cache-dir --constraint /src/constraints.txt --requirement /src/requirements.txt

FROM operator-dependencies AS operator-own
COPY --from=wheel /wheels /wheels
RUN python3 -m pip --python /app/bin/python3 install --quiet --no-cache-dir --no-deps --prefix /own /wheels/*.whl

FROM ${BASE} AS operator
COPY --from=operator-dependencies /app /app
COPY --from=operator-own /own /app
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
WORKDIR /
ENTRYPOINT ["smtpprobe-operator"]
