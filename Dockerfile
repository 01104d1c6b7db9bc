# syntax=docker/dockerfile:1
# The wheel is built in one stage and run in another: no compiler, no tests, no root in what runs.
FROM python:3.13-slim AS build
WORKDIR /build
COPY requirements-service.lock ./
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --require-hashes -r requirements-service.lock
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
COPY sql ./sql
# hatchling stands in the lock, so that the build needs nothing that is not pinned.
RUN /venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
 && /venv/bin/pip uninstall --yes hatchling pip

FROM python:3.13-slim
RUN useradd --system --uid 10001 --no-create-home truestock
COPY --from=build /venv /venv
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    TRUESTOCK_LOG_FORMAT=json
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s \
  CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
ENTRYPOINT ["truestock"]
CMD ["serve", "--host", "0.0.0.0", "--port", "8000"]
