#!/usr/bin/env bash
# Runs a real Apache Kafka (KRaft, one process per broker) on loopback, for tests and benchmarks. It needs no containers:
# Maven fetches Kafka into the cache folder at the first start. Needs a JDK of version 17 or newer, and Maven.
#
#   scripts/kafka.sh start  [--brokers N] [--port PORT] [--dir DIR] [--secure] [--topics NAME,NAME]
#                                                                     prints KAFKA_BROKERS=host:port,..
#   scripts/kafka.sh status [--dir DIR]
#   scripts/kafka.sh stop   [--dir DIR]
#   scripts/kafka.sh libs                                             prints the folder of Kafka's jars
#
# With --secure the brokers also listen with TLS and with SASL (PLAIN and SCRAM-SHA-512) over TLS, and `start` prints
#   KAFKA_TLS_BROKERS, KAFKA_SASL_BROKERS   the addresses of these listeners
#   KAFKA_CA, KAFKA_OTHER_CA                the authority that signed the brokers' certificates, and another one for tests
#   KAFKA_USER, KAFKA_PASSWORD              the credentials of a user
#
# A cluster writes to --dir only, which `start` creates and `stop` removes. For tests of faults:
#
#   scripts/kafka.sh start --proxied PORT ..                          adds a listener for clients behind a proxy:
#       broker N listens at PORT + 2(N-1) and advertises the next port, at which a proxy must listen
#   scripts/kafka.sh broker-kill|broker-stop|broker-pause|broker-resume|broker-start --broker N [--dir DIR]
set -euo pipefail

version="${KAFKA_VERSION:-4.3.1}"
cache="${XDG_CACHE_HOME:-$HOME/.cache}/forebay/kafka/$version"
brokers=1
broker=1
port=19092
proxied=""
dir="${TMPDIR:-/tmp}/forebay-kafka-$(id -u)"
secure=
topics=""

usage() {
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
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
        --topics) topics="${2:?--topics needs a list of names}" ;;
        --secure)
            secure=yes
            shift
            continue
            ;;
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

# Clients of broker N connect to port + 2(N-1), and its controller listens on the next port. After the ports of all brokers,
# each broker has two more for TLS clients: with SASL and without.
client_port() { echo $((port + 2 * ($1 - 1))); }
proxied_port() { echo $((proxied + 2 * ($1 - 1))); }
sasl_port() { echo $((port + 2 * (brokers + $1 - 1))); }
tls_port() { echo $(($(sasl_port "$1") + 1)); }

# Prints the addresses of all brokers, with the ports that the function $1 returns.
addresses() {
    local id list=""
    for ((id = 1; id <= brokers; id++)); do
        list+="${list:+,}127.0.0.1:$("$1" "$id")"
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
    [[ -z "$secure" ]] || command -v openssl >/dev/null || fail "openssl is not installed; --secure needs it"
    fetch
    mkdir -p "$dir"
    echo "KAFKA_BROKERS=$(addresses client_port)" >"$dir/env"
    [[ -z "$secure" ]] || make_secrets
    local cluster id
    cluster="$(kafka_java kafka.tools.StorageTool random-uuid 2>/dev/null | tail -n 1)"
    for ((id = 1; id <= brokers; id++)); do
        start_broker "$id" "$cluster"
    done
    for ((id = 1; id <= brokers; id++)); do
        await_broker "$id"
    done
    [[ -z "$topics" ]] || create_topics
    cat "$dir/env"
}

# Creates the topics of --topics, each with the brokers' default number of partitions.
create_topics() {
    cat >"$dir/Topics.java" <<'JAVA'
import java.util.Map;
import java.util.Optional;
import java.util.stream.Stream;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;

public class Topics {
    public static void main(String[] args) throws Exception {
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", args[0]))) {
            var topics = Stream.of(args[1].split(",")).map(name -> new NewTopic(name, Optional.empty(), Optional.empty()));
            admin.createTopics(topics.toList()).all().get();
        }
    }
}
JAVA
    kafka_java "$dir/Topics.java" "$(addresses client_port)" "$topics" || fail "cannot create the topics $topics"
}

# Fetches Kafka and its dependencies with Maven, once per version.
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

# Creates two authorities, a certificate by the first one for the brokers, and a password, for the lifetime of this cluster.
make_secrets() {
    local tls="$dir/tls" authority password
    mkdir -m 700 "$tls"
    for authority in ca other-ca; do
        openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj "/CN=forebay test $authority" \
            -keyout "$tls/$authority.key" -out "$tls/$authority.pem" 2>/dev/null
    done
    openssl req -newkey rsa:2048 -nodes -subj "/CN=localhost" -keyout "$tls/broker.key" -out "$tls/broker.csr" 2>/dev/null
    openssl x509 -req -in "$tls/broker.csr" -CA "$tls/ca.pem" -CAkey "$tls/ca.key" -CAcreateserial -days 30 \
        -extfile <(echo "subjectAltName=IP:127.0.0.1,DNS:localhost") -out "$tls/broker.crt" 2>/dev/null
    # Kafka reads keys in PKCS #8 only.
    openssl pkcs8 -topk8 -nocrypt -in "$tls/broker.key" -out "$tls/broker.pem"
    cat "$tls/broker.crt" >>"$tls/broker.pem"
    password="$(openssl rand -hex 16)"
    cat >>"$dir/env" <<ENV
KAFKA_SASL_BROKERS=$(addresses sasl_port)
KAFKA_TLS_BROKERS=$(addresses tls_port)
KAFKA_CA=$tls/ca.pem
KAFKA_OTHER_CA=$tls/other-ca.pem
KAFKA_USER=forebay
KAFKA_PASSWORD=$password
ENV
}

# Prints the value of a variable that `start` printed.
from_env() { sed -n "s/^$1=//p" "$dir/env"; }

# Prints the TLS listeners of a broker as server.properties has them, to append to other listeners.
secure_listeners() {
    [[ -z "$secure" ]] || echo ",SASL_SSL://127.0.0.1:$(sasl_port "$1"),SSL://127.0.0.1:$(tls_port "$1")"
}

secure_properties() {
    [[ -n "$secure" ]] || return 0
    local user password
    user="$(from_env KAFKA_USER)" password="$(from_env KAFKA_PASSWORD)"
    cat <<PROPERTIES
ssl.keystore.type=PEM
ssl.keystore.location=$dir/tls/broker.pem
listener.name.sasl_ssl.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_$user="$password";
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
PROPERTIES
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
listeners=PLAINTEXT://127.0.0.1:$(client_port "$id"),CONTROLLER://127.0.0.1:$(($(client_port "$id") + 1))$listeners$(secure_listeners "$id")
advertised.listeners=PLAINTEXT://127.0.0.1:$(client_port "$id")$advertised$(secure_listeners "$id")
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL
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
$(secure_properties)
PROPERTIES
    local credentials=()
    [[ -z "$secure" ]] ||
        credentials=(--add-scram "SCRAM-SHA-512=[name=$(from_env KAFKA_USER),password=$(from_env KAFKA_PASSWORD)]")
    kafka_java kafka.tools.StorageTool format -t "$cluster" -c "$home/server.properties" "${credentials[@]}" \
        >"$home/log" 2>&1 ||
        give_up "$id" "its storage could not be formatted"
    launch "$id"
}

launch() {
    local home="$dir/broker-$1"
    # `nohup` keeps the broker running when this shell or the terminal ends.
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

# Waits until broker $1 accepts connections, which it does once it has joined its cluster.
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

# Succeeds if a process id belongs to a broker of this folder: the system may have given the id to another process.
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
    # Waits until the broker has ended, because the caller may start it again at once.
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

# Stops the brokers by their process ids: with SIGTERM, and after 20 s with SIGKILL.
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
