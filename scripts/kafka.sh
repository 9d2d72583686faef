#!/usr/bin/env bash
# Runs a real Apache Kafka (KRaft, one process a broker) on loopback, for tests and benchmarks. No containers: the
# brokers come as Maven artefacts, once, into the cache folder. Needs Java 17 or newer, and Maven for the first start.
#
#   scripts/kafka.sh start  [--brokers N] [--port PORT] [--dir DIR]   prints KAFKA_BROKERS=host:port,..
#   scripts/kafka.sh status [--dir DIR]
#   scripts/kafka.sh stop   [--dir DIR]
#   scripts/kafka.sh libs                                             prints where Kafka's jars lie
#
# Everything a cluster writes lies under --dir, which `start` makes and `stop` removes. For tests of faults:
#
#   scripts/kafka.sh start --proxied PORT ..                          a second listener for clients behind a proxy:
#       broker N takes them at PORT + 2(N-1) and tells them to come to the port after that
#   scripts/kafka.sh broker-kill|broker-stop|broker-pause|broker-resume|broker-start --broker N [--dir DIR]
set -euo pipefail

version="${KAFKA_VERSION:-4.3.1}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/forebay/kafka/$version"
brokers=1
broker=1
port=19092
proxied=""
dir="${TMPDIR:-/tmp}/forebay-kafka-$(id -u)"

usage() {
    sed -n '2,/^set /s/^# \{0,1\}//p' "$0"
}

fail() {
    echo "kafka.sh: $*" >&2
    exit 1
}

main() {
    local command="${1:-}"
    shift || true
    while (($#)); do
        case "$1" in
        --brokers) brokers="${2:?--brokers needs a number}" ;;
        --broker) broker="${2:?--broker needs a number}" ;;
        --proxied) proxied="${2:?--proxied needs a number}" ;;
        --port) port="${2:?--port needs a number}" ;;
        --dir) dir="${2:?--dir needs a folder}" ;;
        *)
            usage >&2
            exit 64
            ;;
        esac
        shift 2
    done
    [[ "$dir" == /* ]] || dir="$PWD/$dir"
    case "$command" in
    start) start ;;
    status) status ;;
    stop) stop ;;
    libs)
        fetch
        echo "$cache/lib"
        ;;
    broker-kill) signal_broker -KILL ;;
    broker-stop) signal_broker -TERM ;;
    broker-pause) signal_broker -STOP ;;
    broker-resume) signal_broker -CONT ;;
    broker-start) restart_broker ;;
    *)
        usage >&2
        exit 64
        ;;
    esac
}

# Clients of broker N connect to port + 2(N-1); its controller listens on the port after that.
client_port() { echo $((port + 2 * ($1 - 1))); }
proxied_port() { echo $((proxied + 2 * ($1 - 1))); }

addresses() {
    local id list=""
    for ((id = 1; id <= brokers; id++)); do
        list+="${list:+,}127.0.0.1:$(client_port "$id")"
    done
    echo "$list"
}

start() {
    if is_running; then
        cat "$dir/env"
        return
    fi
    if [[ -e "$dir" ]]; then
        [[ -e "$dir/env" || -z "$(ls -A "$dir")" ]] || fail "$dir is not a folder of this script; name another with --dir"
        rm -rf "$dir"
    fi
    command -v java >/dev/null || fail "java is not installed; Kafka needs Java 17 or newer"
    fetch
    mkdir -p "$dir"
    echo "KAFKA_BROKERS=$(addresses)" >"$dir/env"
    local cluster id
    cluster="$(kafka_java kafka.tools.StorageTool random-uuid 2>/dev/null | tail -n 1)"
    for ((id = 1; id <= brokers; id++)); do
        start_broker "$id" "$cluster"
    done
    for ((id = 1; id <= brokers; id++)); do
        await_broker "$id"
    done
    cat "$dir/env"
}

# Kafka and what it needs, resolved by Maven, once for each version.
fetch() {
    [[ -e "$cache/complete" ]] && return
    command -v mvn >/dev/null || fail "mvn is not installed; it is needed once, to fetch Kafka $version"
    echo "kafka.sh: fetching Kafka $version into $cache" >&2
    mkdir -p "$cache"
    cat >"$cache/pom.xml" <<POM
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>forebay</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>$version</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
POM
    mvn --batch-mode --quiet --file "$cache/pom.xml" dependency:copy-dependencies \
        -DincludeScope=runtime -DoutputDirectory="$cache/lib" >&2 || fail "Maven could not fetch Kafka $version"
    touch "$cache/complete"
}

kafka_java() {
    java -Xmx512m -cp "$cache/lib/*" -Dorg.slf4j.simpleLogger.defaultLogLevel="${KAFKA_LOG_LEVEL:-warn}" \
        -Dorg.slf4j.simpleLogger.showDateTime=true "$@"
}

start_broker() {
    local id="$1" cluster="$2" home="$dir/broker-$1" copies=$((brokers < 3 ? brokers : 3)) in_sync=1
    local listeners="" advertised=""
    ((copies < 3)) || in_sync=2
    if [[ -n "$proxied" ]]; then
        listeners=",PROXIED://127.0.0.1:$(proxied_port "$id")"
        advertised=",PROXIED://127.0.0.1:$(($(proxied_port "$id") + 1))"
    fi
    mkdir -p "$home"
    cat >"$home/server.properties" <<PROPERTIES
process.roles=broker,controller
node.id=$id
listeners=PLAINTEXT://127.0.0.1:$(client_port "$id"),CONTROLLER://127.0.0.1:$(($(client_port "$id") + 1))$listeners
advertised.listeners=PLAINTEXT://127.0.0.1:$(client_port "$id")$advertised
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT
controller.quorum.voters=$(voters)
log.dirs=$home/data
num.partitions=4
default.replication.factor=$copies
auto.create.topics.enable=false
offsets.topic.replication.factor=$copies
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=$copies
transaction.state.log.min.isr=$in_sync
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=$copies
share.coordinator.state.topic.min.isr=$in_sync
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
transaction.abort.timed.out.transaction.cleanup.interval.ms=1000
PROPERTIES
    kafka_java kafka.tools.StorageTool format -t "$cluster" -c "$home/server.properties" >"$home/log" 2>&1 ||
        give_up "$id" "its storage could not be formatted"
    launch "$id"
}

launch() {
    local home="$dir/broker-$1"
    # Goes on when this shell, or the terminal, ends.
    nohup java -Xmx512m -cp "$cache/lib/*" \
        -Dorg.slf4j.simpleLogger.defaultLogLevel="${KAFKA_LOG_LEVEL:-warn}" \
        -Dorg.slf4j.simpleLogger.showDateTime=true \
        kafka.Kafka "$home/server.properties" >>"$home/log" 2>&1 </dev/null &
    echo $! >"$home/pid"
}

voters() {
    local id list=""
    for ((id = 1; id <= brokers; id++)); do
        list+="${list:+,}$id@127.0.0.1:$(($(client_port "$id") + 1))"
    done
    echo "$list"
}

# Kafka listens for clients once it has joined its cluster, so a connection is an answer.
await_broker() {
    local id="$1" deadline=$((SECONDS + 60))
    until (exec 3<>"/dev/tcp/127.0.0.1/$(client_port "$id")") 2>/dev/null; do
        is_broker "$(cat "$dir/broker-$id/pid")" || give_up "$id" "it ended"
        ((SECONDS < deadline)) || give_up "$id" "it did not answer within 60 s"
        sleep 0.2
    done
}

give_up() {
    echo "kafka.sh: broker $1: $2; the end of its log:" >&2
    tail -n 30 "$dir/broker-$1/log" >&2
    stop_brokers
    exit 1
}

# Whether a process id is one of the brokers of this folder: ids are used again by others.
is_broker() {
    ps -ww -o args= -p "$1" 2>/dev/null | grep -qF "kafka.Kafka $dir/broker-"
}

running() {
    local file pid
    for file in "$dir"/broker-*/pid; do
        [[ -e "$file" ]] || continue
        pid="$(cat "$file")"
        if is_broker "$pid"; then echo "$pid"; fi
    done
}

is_running() { [[ -n "$(running)" ]]; }

signal_broker() {
    local pid
    pid="$(cat "$dir/broker-$broker/pid")"
    is_broker "$pid" || fail "broker $broker is not running"
    kill "$1" "$pid"
    # A broker that was told to end is started again by whoever calls, perhaps at once: it has to be gone by then.
    case "$1" in
    -KILL | -TERM) while is_broker "$pid"; do sleep 0.1; done ;;
    esac
}

restart_broker() {
    ! is_broker "$(cat "$dir/broker-$broker/pid")" || fail "broker $broker is running"
    launch "$broker"
}

status() {
    is_running || fail "not running in $dir"
    cat "$dir/env"
}

stop() {
    stop_brokers
    [[ -e "$dir/env" ]] && rm -rf "$dir"
    return 0
}

# Ends the brokers by their ids: politely, and after 20 s for good.
stop_brokers() {
    local deadline=$((SECONDS + 20)) pid
    for pid in $(running); do kill "$pid" 2>/dev/null || true; done
    while is_running; do
        if ((SECONDS >= deadline)); then
            for pid in $(running); do kill -9 "$pid" 2>/dev/null || true; done
        fi
        sleep 0.2
    done
}

main "$@"
