# One image for every process of ours: `docker run innkeeper ingress`, `docker run innkeeper workers payments`.
# The target `stripe` adds the local stand-in for Stripe.

FROM python:3.11.14-slim-bookworm AS packages
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN python -m venv /packages
COPY requirements-runtime.lock .
RUN /packages/bin/pip install --no-deps --require-hashes --requirement requirements-runtime.lock

FROM python:3.11.14-slim-bookworm AS runtime
RUN useradd --system --uid 10001 --home-dir /app innkeeper && install --directory --owner innkeeper /data
ENV PATH=/packages/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=packages /packages /packages
WORKDIR /app
USER 10001
ENTRYPOINT ["python", "-m"]

FROM runtime AS stripe
COPY sandbox/__init__.py sandbox/
COPY sandbox/stripe sandbox/stripe
CMD ["sandbox.stripe", "--host", "0.0.0.0", "--port", "12111", "--data", "/data"]

FROM runtime AS innkeeper
COPY topics topics
COPY pricing pricing
COPY storage storage
COPY workers workers
COPY ingress ingress
CMD ["ingress", "--host", "0.0.0.0", "--port", "8080"]
