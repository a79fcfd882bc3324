# One image for every part: `tradingbot run SERVICE`, `tradingbot paper`, the command line.
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
WORKDIR /src
COPY requirements/ requirements/
RUN python -m venv /tools \
 && /tools/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock \
 && /tools/bin/uv pip install --python /tools/bin/python --require-hashes -r requirements/build.lock \
 && python -m venv --without-pip /opt/tradingbot \
 && /tools/bin/uv pip install --python /opt/tradingbot/bin/python --compile-bytecode --require-hashes -r requirements/runtime.lock
COPY pyproject.toml README.md ./
COPY services/ services/
RUN /tools/bin/python -m hatchling build -t wheel -d /dist \
 && /tools/bin/uv pip install --python /opt/tradingbot/bin/python --compile-bytecode --no-deps /dist/*.whl

FROM ${BASE}
# No pip in the last stage: nothing is installed there any more.
RUN python -m pip uninstall --yes --quiet pip setuptools wheel 2>/dev/null || true \
 && useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin tradingbot
COPY --from=build /opt/tradingbot /opt/tradingbot
ENV PATH=/opt/tradingbot/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["tradingbot"]
CMD ["--help"]
