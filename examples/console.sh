#!/bin/sh
# Prints every booking event with Kafka's own console consumer, and whatever options of it are added:
#   examples/console.sh --max-messages 10
# Older tools call --formatter-property by the name of --property.
exec kafka-console-consumer.sh --bootstrap-server "${KAFKA_URL:-127.0.0.1:9092}" \
    --topic booking.events --from-beginning --formatter-property print.timestamp=true \
    --formatter-property print.key=true --formatter-property print.headers=true "$@"
