// The only Kafka client of the fault suite. It uses Apache's Java client, which shares no code with librdkafka,
// the client under test.
//
// It reads commands from standard input, one JSON object per line, and answers each with one line that has the
// number `n` of the command. The records of followed topics come as separate lines.
// Run from source: java -cp 'lib/*' Client.java HOST:PORT,..

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsOptions;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.ListTransactionsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.utils.Utils;

public class Client {
    static final ObjectMapper JSON = new ObjectMapper();
    static final PrintStream OUT = new PrintStream(System.out, false, StandardCharsets.UTF_8);

    final String brokers;
    final Admin admin;
    final KafkaProducer<byte[], byte[]> producer;
    final Map<String, KafkaProducer<byte[], byte[]>> transactional = new HashMap<>();
    final ExecutorService workers = Executors.newCachedThreadPool();
    // A single thread, so that records keep the order of their commands. It is separate from `workers` because
    // sending blocks while brokers are down.
    final ExecutorService producing = Executors.newSingleThreadExecutor();

    public static void main(String[] args) throws Exception {
        var client = new Client(args[0]);
        var input = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = input.readLine()) != null; ) {
            client.take(JSON.readTree(line));
        }
        // The suite has ended.
        Runtime.getRuntime().halt(0);
    }

    Client(String brokers) {
        this.brokers = brokers;
        var settings = common();
        settings.put("default.api.timeout.ms", "20000");
        settings.put("request.timeout.ms", "5000");
        admin = Admin.create(settings);
        producer = producer(Map.of());
    }

    Properties common() {
        var settings = new Properties();
        settings.put("bootstrap.servers", brokers);
        // Reconnects soon after a broker is back.
        settings.put("reconnect.backoff.max.ms", "500");
        settings.put("metadata.max.age.ms", "5000");
        return settings;
    }

    KafkaProducer<byte[], byte[]> producer(Map<String, String> more) {
        var settings = common();
        settings.put("linger.ms", "2");
        settings.put("delivery.timeout.ms", "120000");
        settings.put("request.timeout.ms", "5000");
        settings.put("max.request.size", "16777216");
        settings.putAll(more);
        return new KafkaProducer<>(settings, new ByteArraySerializer(), new ByteArraySerializer());
    }

    void take(JsonNode command) {
        if (command.get("op").asText().equals("produce")) {
            producing.execute(() -> produce(command));
            return;
        }
        workers.execute(() -> {
            var answer = JSON.createObjectNode();
            try {
                run(command, answer);
            } catch (Throwable error) {
                answer.put("error", String.valueOf(error.getCause() == null ? error : error.getCause()));
            }
            answer(command, answer);
        });
    }

    static void answer(JsonNode command, ObjectNode answer) {
        answer.set("n", command.get("n"));
        print(answer);
    }

    static void print(JsonNode line) {
        synchronized (OUT) {
            OUT.println(line);
            OUT.flush();
        }
    }

    void run(JsonNode command, ObjectNode answer) throws Exception {
        switch (command.get("op").asText()) {
            case "create" -> create(command);
            case "delete" -> admin.deleteTopics(strings(command.get("topics"))).all().get();
            case "partitions" -> admin.createPartitions(Map.of(
                command.get("topic").asText(), NewPartitions.increaseTo(command.get("count").asInt()))).all().get();
            case "truncate" -> truncate(command);
            case "follow" -> new Thread(new Follower(command)).start();
            case "ends" -> ends(command, answer);
            case "committed" -> committed(command, answer);
            case "transactions" -> transactions(command, answer);
            case "produce_transaction" -> produceTransaction(command, answer);
            default -> throw new IllegalArgumentException("unknown op");
        }
    }

    void create(JsonNode command) throws Exception {
        var settings = new HashMap<String, String>();
        command.path("settings").fields().forEachRemaining(each -> settings.put(each.getKey(), each.getValue().asText()));
        var topics = new ArrayList<NewTopic>();
        for (var topic : strings(command.get("topics"))) {
            topics.add(new NewTopic(topic, Optional.of(command.get("partitions").asInt()), Optional.empty())
                .configs(settings));
        }
        admin.createTopics(topics).all().get();
    }

    void truncate(JsonNode command) throws Exception {
        var before = new HashMap<TopicPartition, RecordsToDelete>();
        command.get("before").fields().forEachRemaining(each -> before.put(
            new TopicPartition(command.get("topic").asText(), Integer.parseInt(each.getKey())),
            RecordsToDelete.beforeOffset(each.getValue().asLong())));
        admin.deleteRecords(before).all().get();
    }

    void ends(JsonNode command, ObjectNode answer) throws Exception {
        var isolation = isolation(command).equals("read_committed")
            ? IsolationLevel.READ_COMMITTED : IsolationLevel.READ_UNCOMMITTED;
        var wanted = new HashMap<TopicPartition, OffsetSpec>();
        for (var partition : partitions(command.get("topic").asText())) {
            wanted.put(partition, OffsetSpec.latest());
        }
        var ends = answer.putObject("ends");
        admin.listOffsets(wanted, new ListOffsetsOptions(isolation)).all().get().forEach(
            (partition, end) -> ends.put(String.valueOf(partition.partition()), end.offset()));
    }

    void committed(JsonNode command, ObjectNode answer) throws Exception {
        var group = command.get("group").asText();
        var offsets = answer.putObject("committed");
        admin.listConsumerGroupOffsets(
                Map.of(group, new ListConsumerGroupOffsetsSpec()),
                new ListConsumerGroupOffsetsOptions().requireStable(command.path("stable").asBoolean()))
            .partitionsToOffsetAndMetadata(group).get()
            .forEach((partition, offset) -> {
                if (offset != null && partition.topic().equals(command.get("topic").asText())) {
                    offsets.put(String.valueOf(partition.partition()), offset.offset());
                }
            });
    }

    /// Lists the ids of transactions that have been open for longer than `longer_than` milliseconds.
    void transactions(JsonNode command, ObjectNode answer) throws Exception {
        var open = answer.putArray("open");
        var options = new ListTransactionsOptions().filterOnDuration(command.get("longer_than").asLong());
        admin.listTransactions(options).all().get().forEach(transaction -> {
            var state = transaction.state().toString();
            if (state.equals("Ongoing") || state.startsWith("Prepare")) open.add(transaction.transactionalId());
        });
    }

    List<TopicPartition> partitions(String topic) throws Exception {
        var all = new ArrayList<TopicPartition>();
        for (TopicPartitionInfo info : admin.describeTopics(Set.of(topic)).allTopicNames().get().get(topic).partitions()) {
            all.add(new TopicPartition(topic, info.partition()));
        }
        return all;
    }

    static List<String> strings(JsonNode array) {
        var all = new ArrayList<String>();
        array.forEach(each -> all.add(each.asText()));
        return all;
    }

    static String isolation(JsonNode command) {
        return command.path("isolation").asText("read_committed");
    }

    // Producing. The text of keys, values and headers in commands is Latin-1, so that it can stand for any bytes.

    static byte[] bytes(JsonNode text) {
        return text == null || text.isNull() ? null : text.asText().getBytes(StandardCharsets.ISO_8859_1);
    }

    static ProducerRecord<byte[], byte[]> record(String topic, JsonNode node) {
        var partition = node.hasNonNull("p") ? node.get("p").asInt() : null;
        var record = new ProducerRecord<>(topic, partition, bytes(node.get("k")), bytes(node.get("v")));
        node.path("h").fields().forEachRemaining(each -> record.headers().add(each.getKey(), bytes(each.getValue())));
        return record;
    }

    void produce(JsonNode command) {
        var answer = JSON.createObjectNode();
        var acks = answer.putArray("acks");
        var refused = answer.putArray("refused");
        var records = command.get("records");
        var left = new AtomicInteger(records.size());
        for (var node : records) {
            try {
                producer.send(record(command.get("topic").asText(), node),
                    (place, error) -> settle(command, answer, acks, refused, left, node, place, error));
            } catch (RuntimeException error) {
                settle(command, answer, acks, refused, left, node, null, error);
            }
        }
    }

    void settle(JsonNode command, ObjectNode answer, ArrayNode acks, ArrayNode refused, AtomicInteger left,
            JsonNode node, RecordMetadata place, Exception error) {
        synchronized (answer) {
            if (error == null) {
                acks.addArray().add(node.get("i")).add(place.partition()).add(place.offset());
            } else {
                refused.addArray().add(node.get("i")).add(error.toString());
            }
        }
        if (left.decrementAndGet() == 0) answer(command, answer);
    }

    /// Produces all records in one transaction, and commits or aborts it.
    void produceTransaction(JsonNode command, ObjectNode answer) throws Exception {
        KafkaProducer<byte[], byte[]> writer;
        synchronized (transactional) {
            writer = transactional.computeIfAbsent(command.get("id").asText(), id -> {
                var made = producer(Map.of("transactional.id", id));
                made.initTransactions();
                return made;
            });
        }
        synchronized (writer) {
            writer.beginTransaction();
            var acks = answer.putArray("acks");
            for (var node : command.get("records")) {
                var place = writer.send(record(command.get("topic").asText(), node)).get(30, TimeUnit.SECONDS);
                acks.addArray().add(node.get("i")).add(place.partition()).add(place.offset());
            }
            if (command.get("commit").asBoolean()) writer.commitTransaction();
            else writer.abortTransaction();
        }
    }

    /// Prints all records of a topic, and the positions up to which it has read.
    class Follower implements Runnable {
        final String topic;
        final JsonNode number;
        final KafkaConsumer<byte[], byte[]> consumer;
        final int partitions;

        Follower(JsonNode command) throws Exception {
            topic = command.get("topic").asText();
            number = command.get("n");
            var settings = common();
            settings.put("isolation.level", isolation(command));
            settings.put("fetch.max.wait.ms", "100");
            settings.put("request.timeout.ms", "5000");
            consumer = new KafkaConsumer<>(settings, new ByteArrayDeserializer(), new ByteArrayDeserializer());
            var all = partitions(topic);
            partitions = all.size();
            consumer.assign(all);
            consumer.seekToBeginning(all);
        }

        public void run() {
            var positions = new HashMap<TopicPartition, Long>();
            while (true) {
                try {
                    var records = consumer.poll(Duration.ofMillis(200));
                    var line = JSON.createObjectNode();
                    var list = line.putArray("records");
                    records.forEach(record -> list.add(describe(record)));
                    var moved = line.putObject("positions");
                    for (var partition : consumer.assignment()) read(partition, positions, moved);
                    if (list.isEmpty() && moved.isEmpty()) continue;
                    line.set("follow", number);
                    print(line);
                } catch (RetriableException away) {
                    // The brokers are down; the next poll asks again.
                } catch (Throwable error) {
                    var line = JSON.createObjectNode();
                    line.put("follow_error", error.toString());
                    line.set("follow", number);
                    print(line);
                    return;
                }
            }
        }

        void read(TopicPartition partition, Map<TopicPartition, Long> positions, ObjectNode moved) {
            try {
                var position = consumer.position(partition, Duration.ofMillis(200));
                if (!Long.valueOf(position).equals(positions.put(partition, position))) {
                    moved.put(String.valueOf(partition.partition()), position);
                }
            } catch (RetriableException away) {
                // No broker has answered yet, so the position is unknown. The records must be printed anyway.
            }
        }

        ObjectNode describe(ConsumerRecord<byte[], byte[]> record) {
            var node = JSON.createObjectNode();
            node.put("p", record.partition());
            node.put("o", record.offset());
            node.put("k", record.key() == null ? null : new String(record.key(), StandardCharsets.ISO_8859_1));
            node.put("v", record.value() == null ? null : new String(record.value(), StandardCharsets.UTF_8));
            // The partition to which a Java producer sends this key.
            if (record.key() != null) {
                node.put("home", Utils.toPositive(Utils.murmur2(record.key())) % partitions);
            }
            var headers = node.putObject("h");
            record.headers().forEach(header -> headers.put(header.key(),
                header.value() == null ? null : new String(header.value(), StandardCharsets.ISO_8859_1)));
            return node;
        }
    }
}
