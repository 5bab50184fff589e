"""`innkeeper sandbox`, or `python -m sandbox`: the whole system on this machine."""

from operators.cli.commands.options import examples, group
from sandbox.demo import demo
from sandbox.replay import replay
from sandbox.up import up

app = group("Run the whole system on this machine.")


@app.callback()
def _about() -> None:
    """Run the whole system on this machine.

    `up` uses the servers named in KAFKA_URL and DATABASE_URL, if any, instead of its own.
    """


app.command(epilog=examples("innkeeper sandbox demo", "innkeeper sandbox demo --exit"))(demo)
app.command(epilog=examples("innkeeper sandbox up", "innkeeper sandbox up --port 8081 --workers 2"))(up)
app.command(
    epilog=examples("innkeeper sandbox replay tests/system/trace/hotel_bookings.csv.gz --rooms 100 --workers 3")
)(replay)

if __name__ == "__main__":
    app()
