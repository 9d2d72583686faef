// A Spring client that sends requests to Forebay through `ReplyingKafkaTemplate`, and prints as one line of JSON what it got.
//
//   java -cp 'lib/*' Client.java BROKERS REQUESTS REPLIES GROUP
//
// REQUESTS and REPLIES are topics. GROUP begins the names of the consumer groups that read the replies.

import com.fasterxml.jackson.annotation.JsonInclude.Include;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.springframework.kafka.core.DefaultKafkaConsumerFactory;
import org.springframework.kafka.core.DefaultKafkaProducerFactory;
import org.springframework.kafka.listener.ContainerProperties;
import org.springframework.kafka.listener.KafkaMessageListenerContainer;
import org.springframework.kafka.requestreply.ReplyingKafkaTemplate;
import org.springframework.kafka.support.KafkaHeaders;
import org.springframework.kafka.support.TopicPartitionOffset;
import org.springframework.kafka.support.serializer.ErrorHandlingDeserializer;
import org.springframework.kafka.support.serializer.JsonDeserializer;
import org.springframework.kafka.support.serializer.JsonSerializer;
import org.springframework.messaging.support.MessageBuilder;

public class Client {
    static final Duration PATIENCE = Duration.ofSeconds(30);
    static final int REPLY_PARTITION = 3;

    record Request(Integer n) {}

    record Answer(Integer n, Long square, Map<String, String> error) {}

    static class ForebayException extends RuntimeException {
        ForebayException(Map<String, String> error) {
            super(error.get("code") + ": " + error.get("message"));
        }
    }

    final String brokers;
    final String requests;

    Client(String brokers, String requests) {
        this.brokers = brokers;
        this.requests = requests;
    }

    public static void main(String[] args) {
        try {
            run(args);
        } catch (Exception failed) {
            failed.printStackTrace();
            // The threads of the templates would keep the process running.
            System.exit(1);
        }
    }

    static void run(String[] args) throws Exception {
        var client = new Client(args[0], args[1]);
        // The first template has a partition for its replies. The second one takes replies from all partitions, and knows
        // nothing of Forebay's error replies.
        var partition = new TopicPartitionOffset(args[2], REPLY_PARTITION);
        var assigned = client.template(new ContainerProperties(partition), args[3] + "-assigned");
        failOnErrorReplies(assigned);
        var shared = client.template(new ContainerProperties(args[2]), args[3] + "-shared");
        for (var template : List.of(assigned, shared)) {
            template.start();
            if (!template.waitForAssignment(PATIENCE)) {
                throw new IllegalStateException("no partitions were assigned");
            }
        }

        Map<String, Object> seen = new LinkedHashMap<>();
        seen.put("partition", REPLY_PARTITION);
        seen.put("assigned", client.answers(assigned, 0));
        seen.put("shared", client.answers(shared, 1000));
        seen.put("invalid", failure(assigned, client.record(null)));
        seen.put("late", failure(assigned, client.withTimeout("0")));
        seen.put("inTime", answer(assigned, client.withTimeout("60000")).value());
        seen.put("message", client.message(assigned));
        seen.put("unchecked", answer(shared, client.record(null)).value());
        System.out.println(new ObjectMapper().setSerializationInclusion(Include.NON_NULL).writeValueAsString(seen));
        for (var template : List.of(assigned, shared)) {
            template.stop();
            template.destroy();
        }
    }

    ReplyingKafkaTemplate<String, Request, Answer> template(ContainerProperties replies, String group) {
        Map<String, Object> forRequests = new HashMap<>();
        forRequests.put("bootstrap.servers", brokers);
        forRequests.put("key.serializer", StringSerializer.class);
        forRequests.put("value.serializer", JsonSerializer.class);

        Map<String, Object> forReplies = new HashMap<>();
        forReplies.put("bootstrap.servers", brokers);
        forReplies.put("group.id", group);
        // The group is new, so it has no offsets: with the default, it would skip replies that are written before it has
        // looked up the ends of its partitions.
        forReplies.put("auto.offset.reset", "earliest");
        forReplies.put("key.deserializer", StringDeserializer.class);
        forReplies.put("value.deserializer", ErrorHandlingDeserializer.class);
        forReplies.put(ErrorHandlingDeserializer.VALUE_DESERIALIZER_CLASS, JsonDeserializer.class);
        forReplies.put(JsonDeserializer.VALUE_DEFAULT_TYPE, Answer.class);

        var container = new KafkaMessageListenerContainer<>(new DefaultKafkaConsumerFactory<String, Answer>(forReplies), replies);
        var template = new ReplyingKafkaTemplate<>(new DefaultKafkaProducerFactory<String, Request>(forRequests), container);
        template.setDefaultReplyTimeout(PATIENCE);
        template.setSharedReplyTopic(true);
        return template;
    }

    static void failOnErrorReplies(ReplyingKafkaTemplate<String, Request, Answer> template) {
        template.setReplyErrorChecker(reply -> {
            Header code = reply.headers().lastHeader("forebay-error-code");
            return code == null ? null : new ForebayException(((Answer) reply.value()).error());
        });
    }

    // Sends 100 requests at once, and ten one after the other. Returns pairs of number and answer.
    List<List<Object>> answers(ReplyingKafkaTemplate<String, Request, Answer> template, int first) throws Exception {
        List<List<Object>> found = new ArrayList<>();
        var waiting = new ArrayList<Future<ConsumerRecord<String, Answer>>>();
        for (int n = first; n < first + 100; n++) {
            waiting.add(template.sendAndReceive(record(n)));
        }
        for (int n = first; n < first + 100; n++) {
            found.add(List.of(n, waiting.get(n - first).get().value()));
        }
        for (int n = first + 100; n < first + 110; n++) {
            found.add(List.of(n, answer(template, record(n)).value()));
        }
        return found;
    }

    // Sends a request through Spring's `Message`, whose headers Spring maps to those of a record.
    Object message(ReplyingKafkaTemplate<String, Request, Answer> template) throws Exception {
        var request = MessageBuilder.withPayload(new Request(7))
            .setHeader(KafkaHeaders.TOPIC, requests)
            .setHeader("forebay-timeout-ms", 60_000)
            .build();
        return template.sendAndReceive(request).get(PATIENCE.toSeconds(), TimeUnit.SECONDS).getPayload();
    }

    ProducerRecord<String, Request> record(Integer n) {
        return new ProducerRecord<>(requests, "key-" + n, new Request(n));
    }

    ProducerRecord<String, Request> withTimeout(String millis) {
        var record = record(7);
        record.headers().add("forebay-timeout-ms", millis.getBytes(StandardCharsets.UTF_8));
        return record;
    }

    static ConsumerRecord<String, Answer> answer(
        ReplyingKafkaTemplate<String, Request, Answer> template, ProducerRecord<String, Request> request
    ) throws Exception {
        return template.sendAndReceive(request).get();
    }

    // Returns class and message of the exception with which a request fails.
    static String failure(ReplyingKafkaTemplate<String, Request, Answer> template, ProducerRecord<String, Request> request)
        throws Exception {
        try {
            throw new IllegalStateException("not a failure: " + answer(template, request).value());
        } catch (ExecutionException failed) {
            return failed.getCause().getClass().getSimpleName() + ": " + failed.getCause().getMessage();
        }
    }
}
