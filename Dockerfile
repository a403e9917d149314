# Remora as one static binary in an empty image, built from source:  docker build -t remora .
#
# Plain multi-stage, without anything that only BuildKit knows: it builds on every engine from 20.10 on.
# `docker/build-image.sh` builds the same image where no registry can be reached.

# Any image with cargo, a C compiler and the C library for linking; its own processor is what is built for.
ARG RUST_IMAGE=rust:1.95-slim

FROM ${RUST_IMAGE} AS build
WORKDIR /build

# Static, with glibc: malloc and name resolution behave as everywhere else, and nothing but the binary is in the image. The
# explicit target (below) keeps the flag away from build scripts and procedural macros, which cannot be static.
ENV RUSTFLAGS="-C target-feature=+crt-static"

# First the dependencies alone, on an empty crate: this layer is built again only when a manifest changes. The tables of
# benchmarks and tests go, because cargo looks for their files.
COPY Cargo.toml Cargo.lock ./
RUN awk '/^\[/ { skip = /^\[\[(bench|test|example)\]\]/ } !skip' Cargo.toml > stub.toml && mv stub.toml Cargo.toml \
    && mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
    && cargo build --release --locked --target "$(rustc -vV | sed -n 's/^host: //p')"

# Then the source. `touch`: cargo compares times, and the files may be older than the empty crate above.
COPY . .
ARG REVISION=unknown
RUN target="$(rustc -vV | sed -n 's/^host: //p')" \
    && touch src/main.rs src/lib.rs \
    && REMORA_REVISION="$REVISION" cargo build --release --locked --target "$target" \
    && mkdir -p /out/etc/ssl/certs \
    && cp "target/$target/release/remora" /out/remora \
    # For a Consul whose certificate a public authority has signed.
    && { cp /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ 2>/dev/null || true; }

FROM scratch
COPY --from=build /out/ /

# The revision of the source; docker/build-image.sh sets both.
ARG REVISION=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="remora" \
      org.opencontainers.image.description="Publishes the ports and the health of every Docker container to Consul" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

# A user that exists nowhere. Access to the Docker socket comes from its group: `--group-add "$(stat -c %g /var/run/docker.sock)"`.
USER 65532:65532

# Asks the running agent on loopback. 30 s: every probe costs the engine three events.
HEALTHCHECK --interval=30s --timeout=3s --retries=3 CMD ["/remora", "healthcheck"]

ENTRYPOINT ["/remora"]
