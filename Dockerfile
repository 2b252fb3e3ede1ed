# Two images from one file: `docker build --target probe …` and `docker build --target operator …`.
# BASE is any image with Python 3.13 or later and pip; the tests bring their own.
# Each image is BASE, pinned dependencies (layers that a change of the sources leaves alone) and one small layer of our own.
ARG BASE=python:3.13-slim-trixie

# What smtpprobe.pod imports and no more: the pod starts faster and has less to attack.
FROM ${BASE} AS probe-dependencies
COPY constraints/constraints.txt /src/constraints.txt
RUN python3 -m venv --without-pip /app \
 && python3 -m pip --python /app/bin/python3 install --quiet --no-cache-dir --constraint /src/constraints.txt \
    cryptography msgspec

FROM ${BASE} AS operator-dependencies
COPY constraints/constraints.txt pyproject.toml /src/
RUN python3 -m venv --without-pip /app \
 && python3 -c "import tomllib; p = tomllib.load(open('/src/pyproject.toml', 'rb'))['project']; print(*p['dependencies'], *p['optional-dependencies']['operator'], sep='\n')" > /src/requirements.txt \
 && python3 -m pip --python /app/bin/python3 install --quiet --no-cache-dir --constraint /src/constraints.txt --requirement /src/requirements.txt

FROM ${BASE} AS tools
COPY constraints/constraints.txt /tools/constraints.txt
RUN python3 -m venv /app \
 && /app/bin/pip install --quiet --no-cache-dir --constraint /tools/constraints.txt hatchling

FROM tools AS own
COPY . /src
RUN /app/bin/pip install --quiet --no-cache-dir --no-deps --no-build-isolation --prefix /operator /src \
 && cp -a /operator /probe \
 && rm -r /probe/bin /probe/lib/python3*/site-packages/smtpprobe_operator

# Docker's own Python images have the standard library without bytecode, and where nobody may write it: each start would
# compile what it imports, half a second of a probe's. Where BASE has it, this adds nothing.
FROM ${BASE} AS runtime
RUN python3 -m compileall -q -j 0 -x '/(test|tests|idlelib|lib2to3|site-packages|dist-packages)/' \
    "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')"
ENV PATH=/app/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1

FROM runtime AS probe
COPY --from=probe-dependencies /app /app
COPY --from=own /probe /app
USER 65532:65532
WORKDIR /
ENTRYPOINT ["python3", "-m", "smtpprobe.pod"]

FROM runtime AS operator
COPY --from=operator-dependencies /app /app
COPY --from=own /operator /app
USER 65532:65532
WORKDIR /
ENTRYPOINT ["smtpprobe-operator"]
