# One image for every part: `tradingbot run SERVICE`, `tradingbot paper`, `tradingbot-operator`, `kubectl-tradingbot`.
# What changes most comes last: a change of the code rebuilds and ships the wheel's layer alone.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS tools
ENV UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
COPY requirements/bootstrap.lock requirements/build.lock /requirements/
RUN --mount=type=cache,target=/root/.cache \
    python -m venv /tools \
 && /tools/bin/pip install --disable-pip-version-check --require-hashes -r /requirements/bootstrap.lock \
 && /tools/bin/uv pip install --python /tools/bin/python --require-hashes -r /requirements/build.lock

FROM tools AS dependencies
# Everything but what only a laptop needs (the embedded server, recorded candles) and scipy, which the solver installs
# and nothing here loads. The lock names every package, so none of them may bring in another.
COPY requirements/image.lock /requirements/
RUN --mount=type=cache,target=/root/.cache \
    python -m venv --without-pip /opt/tradingbot \
 && /tools/bin/uv pip install --python /opt/tradingbot/bin/python --compile-bytecode --no-deps --require-hashes \
        -r /requirements/image.lock

FROM dependencies AS wheel
WORKDIR /src
COPY pyproject.toml README.md ./
COPY services/ services/
COPY operator/ operator/
RUN /tools/bin/python -m hatchling build -t wheel -d /dist \
 && /tools/bin/uv pip install --python /opt/tradingbot/bin/python --target /app --compile-bytecode --no-deps /dist/*.whl

FROM ${BASE}
# No pip in the last stage: nothing is installed there any more.
RUN python -m pip uninstall --yes --quiet pip setuptools wheel 2>/dev/null || true \
 && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tradingbot
COPY --from=dependencies /opt/tradingbot /opt/tradingbot
COPY --from=wheel /app /app
ENV PATH=/app/bin:/opt/tradingbot/bin:$PATH PYTHONPATH=/app PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["tradingbot"]
CMD ["--help"]
