# Functions for .ci/run, .ci/real and .ci/nightly; to be sourced. Debian 12, root, a Rust toolchain by rustup.
# shellcheck shell=bash

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
WORK=$ROOT/.ci/work
mkdir -p "$WORK"
cd "$ROOT"

# Versions of the tools that no lock file names.
CARGO_DENY_VERSION=0.20.2
CARGO_FUZZ_VERSION=0.13.2
CARGO_MUTANTS_VERSION=27.1.0
DOCKERFILE_UTILS_VERSION=0.16.3
OPENFEATURE_SDK_VERSION=1.23.0
OPENFEATURE_OFREP_VERSION=0.1.3
OPENFEATURE_CORE_VERSION=1.12.0
FLAGD_CORE_VERSION=4.0.1
FLAGD_PROVIDER_VERSION=0.6.1
GOFF_PROVIDER_VERSION=1.3.0
PYYAML_VERSION=6.0.3
TOMLI_VERSION=2.3.0
NODE_VERSION=24.21.0
UNLEASH_VERSION=8.2.0
UNLEASH_CLIENT_VERSION=6.12.1

STEP='start'
trap 'status=$?; [ $status = 0 ] || printf "\n== FAILED in \"%s\" (exit code %s, %s s in all)\n" "$STEP" $status $SECONDS' EXIT

# step TITLE COMMAND…: a heading, the command, the time it took. A failure ends the script.
step() {
    local begin=$SECONDS
    STEP=$1
    shift
    printf '\n== %s\n' "$STEP"
    "$@"
    printf '== %s: %s s (%s s in all)\n' "$STEP" $((SECONDS - begin)) $SECONDS
}

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null; }

# need PROGRAM PACKAGE: remembers the Debian package when the program is missing.
MISSING=()
need() { have "$1" || MISSING+=("$2"); }

install_missing() {
    if [ ${#MISSING[@]} = 0 ]; then
        echo 'no Debian package is missing'
        return
    fi
    echo "missing: ${MISSING[*]}"
    have apt-get && [ "$(id -u)" = 0 ] || fail 'install these Debian packages, or run as root on Debian'
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${MISSING[@]}" >"$WORK/apt.log" 2>&1 \
        || { tail -n 40 "$WORK/apt.log"; fail 'apt-get install failed'; }
    MISSING=()
}

# What a build needs: a C compiler, make and perl for OpenSSL, librdkafka, SQLite and zstd.
need_build() {
    need cc build-essential
    need make build-essential
    need perl perl
    need setpriv util-linux
    have cargo || fail 'no Rust toolchain: install one by rustup'
}

# What the real-server tests need besides.
need_servers() {
    need java openjdk-17-jre-headless
    need mvn maven
    need prometheus-alertmanager prometheus-alertmanager
    need npm npm
    python3 -c 'import venv, ensurepip' 2>/dev/null || MISSING+=(python3-venv)
    [ -n "$(pg_bin)" ] || MISSING+=(postgresql)
}

# What the checks of deploy/ need besides.
need_deploy() {
    need systemd-analyze systemd
    [ -x /bin/kill ] || MISSING+=(procps) # the unit's ExecReload
    need docker-compose docker-compose
    need promtool prometheus
    need amtool prometheus-alertmanager
    need npm npm
}

# The folder of the newest installed PostgreSQL server.
pg_bin() {
    local bin newest=''
    for bin in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V); do
        [ -x "$bin/initdb" ] && [ -x "$bin/postgres" ] && newest=$bin
    done
    printf '%s' "$newest"
}

rust_components() {
    cargo fmt --version 2>/dev/null || rustup component add rustfmt
    cargo clippy --version 2>/dev/null || rustup component add clippy
    rustc --version
}

# cargo_tool NAME VERSION: builds a cargo subcommand from crates.io into cargo's own folder, once per machine.
cargo_tool() {
    if [ "$("cargo-$1" --version 2>/dev/null)" = "cargo-$1 $2" ]; then
        echo "cargo-$1 $2 is there"
        return
    fi
    CARGO_TARGET_DIR=$WORK/$1-build cargo install --quiet --locked "cargo-$1@$2"
    rm -rf "$WORK/$1-build"
}

# A folder per POM, so that another version never shares a class path with an old one.
KAFKA_LIBS=$WORK/kafka-$(cksum <"$ROOT/.ci/kafka/pom.xml" | cut -d ' ' -f 1)

kafka_jars() {
    mvn -q -B -f .ci/kafka/pom.xml dependency:copy-dependencies "-DoutputDirectory=$KAFKA_LIBS" \
        </dev/null >"$WORK/mvn.log" 2>&1 || { tail -n 40 "$WORK/mvn.log"; fail "Kafka's jars cannot be fetched"; }
    compgen -G "$KAFKA_LIBS/kafka_2.13-*.jar"
}

# A folder per version: npm resolves Unleash by the Node.js that runs it, and the machine's may be too old for it.
UNLEASH=$WORK/unleash-$UNLEASH_VERSION-$UNLEASH_CLIENT_VERSION

unleash_modules() {
    local log=$WORK/unleash.log
    {
        npm install --no-fund --no-audit --prefix "$UNLEASH" "node@$NODE_VERSION" &&
            PATH=$UNLEASH/node_modules/.bin:$PATH npm install --no-fund --no-audit --prefix "$UNLEASH" \
                "unleash-server@$UNLEASH_VERSION" "unleash-client@$UNLEASH_CLIENT_VERSION"
    } </dev/null >"$log" 2>&1 || { tail -n 40 "$log"; fail 'Unleash cannot be fetched'; }
    [ -f "$UNLEASH/node_modules/unleash-server/dist/server.js" ] || fail 'Unleash has no server'
}

# Tells tests/real/servers.rs where the programs are.
export_servers() {
    REARGUARD_KAFKA_LIBS=$KAFKA_LIBS
    REARGUARD_PG_BIN=$(pg_bin)
    REARGUARD_ALERTMANAGER=$(command -v prometheus-alertmanager)
    REARGUARD_UNLEASH=$UNLEASH/node_modules
    export REARGUARD_KAFKA_LIBS REARGUARD_PG_BIN REARGUARD_ALERTMANAGER REARGUARD_UNLEASH
    java -version 2>&1 | head -n 1
    "$REARGUARD_PG_BIN/postgres" --version
    "$REARGUARD_ALERTMANAGER" --version 2>&1 | head -n 1
}

provision_servers() {
    need_build
    need_servers
    install_missing
    kafka_jars
    unleash_modules
    export_servers
}
