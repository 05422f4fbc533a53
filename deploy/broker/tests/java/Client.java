// The Java client against a broker: what it does and sees, line by line, on standard output. Run from its source
// (`java -cp JARS Client.java BOOTSTRAP PREFIX`) by the conformance suite, which holds the lines against `expected.txt`.

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Client {
    static String bootstrap;
    static String input;
    static String output;
    static String group;
    static Admin admin;

    interface Step {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        bootstrap = arguments[0];
        input = arguments[1] + "-input";
        output = arguments[1] + "-output";
        group = arguments[1] + "-group";
        admin = Admin.create(new HashMap<>(Map.of("bootstrap.servers", bootstrap)));
        topics();
        settings();
        produce();
        codecs(arguments[1] + "-codecs");
        transactions();
        fencing();
        offsets();
        groups();
        deletions();
        admin.close();
    }

    static void say(String what, Object value) {
        System.out.println(what + ": " + value);
    }

    static void sayRefusal(String what, Step step) throws Exception {
        try {
            step.run();
            say(what, "taken");
        } catch (ExecutionException error) {
            say(what, error.getCause().getClass().getSimpleName());
        } catch (KafkaException error) {
            say(what, error.getClass().getSimpleName());
        }
    }

    static void topics() throws Exception {
        // The input's records are old on purpose, and shall stay.
        NewTopic old = new NewTopic(input, 2, (short) 1).configs(Map.of("retention.ms", "-1"));
        NewTopic large = new NewTopic(output, 1, (short) 1).configs(Map.of("max.message.bytes", "2000000"));
        admin.createTopics(List.of(old, large)).all().get();
        sayRefusal("create again", () -> admin.createTopics(List.of(large)).all().get());
        sayRefusal("create badly", () -> admin.createTopics(List.of(new NewTopic("not a name", 1, (short) 1))).all().get());
        sayRefusal("describe nothing", () -> admin.describeTopics(List.of("no-such-topic")).allTopicNames().get());
        Map<String, TopicDescription> described = Map.of();
        // A new topic may not be told of at once.
        while (described.size() < 2) {
            try {
                described = admin.describeTopics(List.of(input, output)).allTopicNames().get();
            } catch (ExecutionException notYet) {
                Thread.sleep(20);
            }
        }
        say("partitions", described.get(input).partitions().size() + " " + described.get(output).partitions().size());
        say("leader", described.get(input).partitions().get(1).leader().id());
        say("nodes", admin.describeCluster().nodes().get().size());
        say("listed", admin.listTopics().names().get().containsAll(List.of(input, output)));
    }

    static void settings() throws Exception {
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, output);
        AlterConfigOp change = new AlterConfigOp(new ConfigEntry("retention.ms", "77000"), AlterConfigOp.OpType.SET);
        admin.incrementalAlterConfigs(Map.of(resource, List.of(change))).all().get();
        Config config;
        do {
            config = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        } while (!config.get("retention.ms").value().equals("77000"));
        say("retention.ms", config.get("retention.ms").value() + " " + config.get("retention.ms").source());
        say("max.message.bytes", config.get("max.message.bytes").value());
        say("cleanup.policy", config.get("cleanup.policy").value() + " " + config.get("cleanup.policy").source());
        AlterConfigOp bad = new AlterConfigOp(new ConfigEntry("retention.ms", "soon"), AlterConfigOp.OpType.SET);
        sayRefusal("alter badly", () -> admin.incrementalAlterConfigs(Map.of(resource, List.of(bad))).all().get());
    }

    static KafkaProducer<String, String> producer(String... settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "linger.ms", "20"));
        for (int at = 0; at < settings.length; at += 2) {
            all.put(settings[at], settings[at + 1]);
        }
        return new KafkaProducer<>(all, new StringSerializer(), new StringSerializer());
    }

    static KafkaConsumer<String, String> consumer(String... settings) {
        Map<String, Object> all = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "enable.auto.commit", "false"));
        all.put("auto.offset.reset", "earliest");
        all.put("isolation.level", "read_committed");
        all.put("partition.assignment.strategy", CooperativeStickyAssignor.class.getName());
        for (int at = 0; at < settings.length; at += 2) {
            all.put(settings[at], settings[at + 1]);
        }
        return new KafkaConsumer<>(all, new StringDeserializer(), new StringDeserializer());
    }

    /** Idempotent, as is the default; the last offset of each partition. */
    static void produce() throws Exception {
        try (KafkaProducer<String, String> producer = producer("compression.type", "lz4")) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (int index = 0; index < 100; index++) {
                ProducerRecord<String, String> record =
                    new ProducerRecord<>(input, index % 2, 1_700_000_000_000L + index, "key " + index, "value " + index);
                record.headers().add("index", new byte[] {(byte) index}).add("nothing", null);
                sent.add(producer.send(record));
            }
            say("last offsets", sent.get(98).get().offset() + " " + sent.get(99).get().offset());
            sayRefusal("too large", () -> producer.send(new ProducerRecord<>(input, "x".repeat(1_048_577))).get());
        }
    }

    static void codecs(String topic) throws Exception {
        admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            try (KafkaProducer<String, String> producer = producer("compression.type", codec)) {
                for (int index = 0; index < 20; index++) {
                    producer.send(new ProducerRecord<>(topic, null, codec + " " + "abc".repeat(index)));
                }
            }
        }
        try (KafkaConsumer<String, String> consumer = consumer()) {
            TopicPartition partition = new TopicPartition(topic, 0);
            consumer.assign(List.of(partition));
            List<ConsumerRecord<String, String>> records = read(consumer, 100);
            Map<String, Integer> counts = new LinkedHashMap<>();
            records.forEach(record -> counts.merge(record.value().split(" ")[0], 1, Integer::sum));
            say("codecs", counts);
        }
    }

    static List<ConsumerRecord<String, String>> read(KafkaConsumer<String, String> consumer, int count) {
        List<ConsumerRecord<String, String>> records = new ArrayList<>();
        while (records.size() < count) {
            consumer.poll(Duration.ofMillis(100)).forEach(records::add);
        }
        return records;
    }

    /** Reads in a group, writes what was read and commits the offsets in one transaction; the first is aborted. */
    static void transactions() throws Exception {
        String id = output + "-transactions";
        try (KafkaProducer<String, String> producer = producer("transactional.id", id);
                KafkaConsumer<String, String> consumer = consumer("group.id", group, "max.poll.records", "10")) {
            producer.initTransactions();
            consumer.subscribe(List.of(input));
            int done = 0;
            for (int round = 0; done < 100; round++) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                if (records.isEmpty()) {
                    round--;
                    continue;
                }
                producer.beginTransaction();
                Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                for (ConsumerRecord<String, String> record : records) {
                    producer.send(new ProducerRecord<>(output, record.key(), "done " + record.value()));
                    offsets.put(new TopicPartition(input, record.partition()), new OffsetAndMetadata(record.offset() + 1));
                }
                producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                if (round == 0) {
                    producer.flush();
                    producer.abortTransaction();
                    for (TopicPartition partition : consumer.assignment()) {
                        OffsetAndMetadata committed = consumer.committed(Collections.singleton(partition)).get(partition);
                        say("committed after the abort", committed);
                        consumer.seek(partition, 0);
                    }
                } else {
                    producer.commitTransaction();
                    done += records.count();
                }
            }
            say("done", done);
            ConsumerGroupDescription told = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            say("group", told.groupState() + " " + told.partitionAssignor() + " " + told.members().size());
            say("its share", told.members().iterator().next().assignment().topicPartitions().size());
            sayRefusal("delete a busy group", () -> admin.deleteConsumerGroups(List.of(group)).all().get());
        }
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.assign(List.of(new TopicPartition(output, 0)));
            List<ConsumerRecord<String, String>> records = read(consumer, 100);
            say("read", records.stream().map(ConsumerRecord::value).distinct().count() + " of " + records.size());
            say("headers kept", records.get(0).headers().toArray().length);
        }
        TransactionDescription described = admin.describeTransactions(List.of(id)).all().get().get(id);
        say("transaction", described.state() + " " + described.topicPartitions().size());
        say("listed transaction", admin.listTransactions().all().get().stream().anyMatch(listed -> listed.transactionalId().equals(id)));
        TopicPartition written = new TopicPartition(output, 0);
        List<ProducerState> producers = admin.describeProducers(List.of(written)).all().get().get(written).activeProducers();
        say("producers", producers.size() + " open " + producers.get(0).currentTransactionStartOffset());
    }

    static void fencing() throws Exception {
        String id = output + "-fenced";
        try (KafkaProducer<String, String> first = producer("transactional.id", id);
                KafkaProducer<String, String> second = producer("transactional.id", id)) {
            first.initTransactions();
            first.beginTransaction();
            first.send(new ProducerRecord<>(output, "fenced", "fenced")).get();
            second.initTransactions();
            second.beginTransaction();
            second.send(new ProducerRecord<>(output, "kept", "kept"));
            second.commitTransaction();
            sayRefusal("fenced", () -> {
                try {
                    first.commitTransaction();
                } catch (InvalidProducerEpochException other) {
                    throw new ProducerFencedException(other.getMessage()); // as Kafka documents, either may come
                }
            });
        }
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.assign(List.of(new TopicPartition(output, 0)));
            List<ConsumerRecord<String, String>> records = read(consumer, 101);
            say("after the fence", records.get(100).value());
        }
    }

    static void offsets() throws Exception {
        TopicPartition partition = new TopicPartition(input, 1);
        Map<String, OffsetSpec> specs = new TreeMap<>(Map.of(
            "earliest", OffsetSpec.earliest(), "latest", OffsetSpec.latest(), "greatest time", OffsetSpec.maxTimestamp(),
            "by time", OffsetSpec.forTimestamp(1_700_000_000_050L), "by a late time", OffsetSpec.forTimestamp(1_800_000_000_000L)));
        for (Map.Entry<String, OffsetSpec> spec : specs.entrySet()) {
            ListOffsetsResult.ListOffsetsResultInfo found =
                admin.listOffsets(Map.of(partition, spec.getValue())).partitionResult(partition).get();
            say(spec.getKey(), found.offset() + " " + found.timestamp());
        }
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.assign(List.of(partition));
            say("bounds", consumer.beginningOffsets(List.of(partition)).get(partition) + " "
                + consumer.endOffsets(List.of(partition)).get(partition));
            say("for times", consumer.offsetsForTimes(Map.of(partition, 1_700_000_000_051L)).get(partition));
            consumer.seek(partition, 40);
            ConsumerRecord<String, String> record = read(consumer, 1).get(0);
            say("sought", record.offset() + " " + record.key() + " " + record.timestamp() + " " + record.timestampType());
            say("its headers", record.headers().lastHeader("index").value()[0] + " " + record.headers().lastHeader("nothing").value());
        }
    }

    static void groups() throws Exception {
        Map<TopicPartition, OffsetAndMetadata> committed =
            admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get();
        say("committed", committed.get(new TopicPartition(input, 0)).offset() + " " + committed.get(new TopicPartition(input, 1)).offset());
        say("listed group", admin.listGroups().all().get().stream().anyMatch(listed -> listed.groupId().equals(group)));
        TopicPartition partition = new TopicPartition(input, 0);
        admin.alterConsumerGroupOffsets(group, Map.of(partition, new OffsetAndMetadata(7, Optional.empty(), "by hand"))).all().get();
        OffsetAndMetadata altered = admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(partition);
        say("altered", altered.offset() + " " + altered.metadata());
        // Two members share; the second's coming takes one partition from the first.
        try (KafkaConsumer<String, String> first = consumer("group.id", group);
                KafkaConsumer<String, String> second = consumer("group.id", group)) {
            first.subscribe(List.of(input));
            second.subscribe(List.of(input));
            while (first.assignment().size() != 1 || second.assignment().size() != 1) {
                first.poll(Duration.ofMillis(20));
                second.poll(Duration.ofMillis(20));
            }
            say("shared", first.assignment().equals(second.assignment()) ? "twice" : "each one");
        }
        admin.deleteConsumerGroups(List.of(group)).all().get();
        sayRefusal("delete the group again", () -> admin.deleteConsumerGroups(List.of(group)).all().get());
    }

    static void deletions() throws Exception {
        TopicPartition partition = new TopicPartition(input, 0);
        say("deleted before", admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(30))).lowWatermarks()
            .get(partition).get().lowWatermark());
        sayRefusal("delete beyond", () -> admin.deleteRecords(Map.of(partition, RecordsToDelete.beforeOffset(300))).all().get());
        try (KafkaConsumer<String, String> consumer = consumer()) {
            consumer.assign(List.of(partition));
            say("first left", read(consumer, 1).get(0).offset());
        }
        admin.createPartitions(Map.of(input, NewPartitions.increaseTo(3))).all().get();
        sayRefusal("shrink", () -> admin.createPartitions(Map.of(input, NewPartitions.increaseTo(1))).all().get());
        admin.deleteTopics(List.of(input, output)).all().get();
        sayRefusal("delete again", () -> admin.deleteTopics(List.of(input)).all().get());
    }
}
