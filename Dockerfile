# Two stages: `make install` builds the environment, as on any machine; the image carries only that.
FROM python:3.11-slim AS build
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Makefile setup.cfg pyproject.toml constraints.txt requirements.lock README.md LICENSE ./
COPY hl7bridge hl7bridge
COPY mappings mappings
RUN make install VENV=/opt/hl7bridge

FROM python:3.11-slim
COPY --from=build /opt/hl7bridge /opt/hl7bridge
RUN useradd --system --uid 10001 --home-dir /var/lib/hl7bridge --create-home hl7bridge
USER hl7bridge
WORKDIR /var/lib/hl7bridge
ENV PATH=/opt/hl7bridge/bin:$PATH PYTHONUNBUFFERED=1
# journal, dead letters and, without an endpoint, bundles: ./var under the working directory
VOLUME /var/lib/hl7bridge
EXPOSE 6661 9661
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s CMD \
  ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9661/healthz', timeout=4)"]
ENTRYPOINT ["hl7bridge"]
CMD ["serve"]
