# One image for development, production and Heroku.

FROM python:3.13-slim AS build
WORKDIR /app
RUN python -m venv --without-pip .venv
COPY requirements.txt .
RUN pip --python .venv/bin/python install --require-hashes --only-binary :all: --no-cache-dir \
        --disable-pip-version-check --requirement requirements.txt \
 && find .venv -type d -name tests -prune -exec rm -r {} +
# The code comes after the packages, so that a change of it does not install them again.
COPY setup.cfg pyproject.toml README.md LICENSE ./
COPY hello_login hello_login
# Editable, so that the code is only in /app/hello_login, where docker-compose.yml mounts it for development.
RUN pip --python .venv/bin/python install --no-deps --no-build-isolation --no-cache-dir \
        --disable-pip-version-check --editable . \
 && python -m compileall -q hello_login

FROM python:3.13-slim
# A running container needs no pip.
RUN pip uninstall --yes --quiet --root-user-action=ignore pip \
 && rm -rf /usr/local/lib/python3*/ensurepip /root/.cache
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /app
COPY --from=build /app/.venv .venv
COPY docker-entrypoint.sh development.ini production.ini ./
COPY sql sql
COPY --from=build /app/hello_login hello_login
# Any user works (Heroku chooses a random one): the application writes files to /dev/shm only, for METRICS_TOKEN.
USER 10001:10001
EXPOSE 5000
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ.get('PORT', 5000)}/healthz\", timeout=2)"]
ENTRYPOINT ["/app/docker-entrypoint.sh"]
CMD ["pserve", "production.ini"]
# These come last, because each commit has another revision: --build-arg REVISION=$(git rev-parse HEAD)
ARG REVISION=""
LABEL org.opencontainers.image.title="hello_login" \
      org.opencontainers.image.description="A small and complete login application: Pyramid, hand-written SQL, PostgreSQL" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="0.1.0" \
      org.opencontainers.image.revision=$REVISION
