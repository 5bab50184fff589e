#!/bin/sh
# Prints every booking event with Kafka's own console consumer; options of its own can be added:
#   examples/console.sh --max-messages 10
# Older tools call --formatter-property by the name of --property. Where Kafka's tools are not in the path, it takes them
# from the jars that `make setup` has fetched into this checkout.
set -e
jars=$(echo "$(dirname "$0")"/../.cache/kafka/*/jars)
if command -v kafka-console-consumer.sh >/dev/null; then
    tool=kafka-console-consumer.sh
elif [ -d "$jars" ]; then
    tool="java -XX:TieredStopAtLevel=1 org.apache.kafka.tools.consumer.ConsoleConsumer"
    export CLASSPATH="$jars/*"
else
    echo "no kafka-console-consumer.sh in the path: install Kafka's tools, or run make setup" >&2
    exit 2
fi
# shellcheck disable=SC2086 - the tool is several words
exec $tool --bootstrap-server "${KAFKA_URL:-127.0.0.1:9092}" \
    --topic booking.events --from-beginning --formatter-property print.timestamp=true \
    --formatter-property print.key=true --formatter-property print.headers=true "$@"
