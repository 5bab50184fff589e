# One image for every process of ours: `docker run innkeeper ingress`, `docker run innkeeper worker payments`.
# The target `stripe` is the local stand-in for Stripe.

FROM python:3.11.14-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /packages
COPY requirements-runtime.lock .
RUN /packages/bin/pip install --no-deps --require-hashes --requirement requirements-runtime.lock

# The wheel, by the locked build backend and without a network.
FROM packages AS wheel
COPY requirements-build.lock .
RUN pip install --no-deps --require-hashes --requirement requirements-build.lock
# .dockerignore lets the packages through, and what the backend reads.
COPY . .
RUN pip wheel --no-deps --no-index --no-build-isolation --wheel-dir /wheels .

FROM python:3.11.14-slim-bookworm AS runtime
RUN useradd --system --uid 10001 --home-dir /app innkeeper && install --directory --owner innkeeper /data
ENV PATH=/packages/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=packages /packages /packages
WORKDIR /app
USER 10001

FROM runtime AS stripe
COPY sandbox/__init__.py sandbox/
COPY sandbox/stripe sandbox/stripe
ENTRYPOINT ["python", "-m", "sandbox.stripe"]
CMD ["--host", "0.0.0.0", "--port", "12111", "--data", "/data"]

FROM runtime AS innkeeper
USER root
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels \
    pip install --no-deps --no-index --no-cache-dir /wheels/*.whl
USER 10001
ENTRYPOINT ["innkeeper"]
CMD ["ingress", "--host", "0.0.0.0", "--port", "8080"]
