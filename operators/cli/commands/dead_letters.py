"""`innkeeper dead-letters`: records that could not be read, replayed or discarded by operators."""

from typing import Annotated

import typer

from operators.cli.commands.options import By, Json, Yes, examples, group

app = group("Records that could not be read: origin and reason; replay or discard them.")

Ids = Annotated[list[str] | None, typer.Argument(metavar="[PARTITION@OFFSET]", help="As `list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="Every open one that the filters match.")]
OfTopic = Annotated[str | None, typer.Option("--topic", metavar="NAME", help="Only those that came from this topic.")]
OfType = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only this type; `*` matches anything.")]
OfReason = Annotated[
    str | None, typer.Option("--reason", metavar="TEXT", help="Only those whose reason contains this.")
]
Since = Annotated[
    str | None,
    typer.Option("--since", metavar="WHEN", help="Sent here since: `10m`, `2h`, `1d` ago, or an ISO time."),
]


@app.command(
    "list",
    epilog=examples(
        "innkeeper dead-letters list --open",
        "innkeeper dead-letters list --topic stripe.webhooks --since 1d --json",
    ),
)
def list_command(
    topic: OfTopic = None,
    since: Since = None,
    kind: OfType = None,
    open_only: Annotated[
        bool, typer.Option("--open", help="Only those that are neither replayed nor discarded.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show dead letters, the oldest first: each one's origin, reason and state. They are kept for 30 days.

    `open`: nothing was done yet. `begun`: a replay began and was interrupted. `replayed`, `discarded`: done.

    Exit status: 0 shown; 1 the broker has no such topic; 2 the broker or the database does not answer.
    """
    from operators.cli import dead_letters

    dead_letters.list_dead_letters(topic=topic, since=since, kind=kind, open_only=open_only, as_json=as_json)


@app.command("show", epilog=examples("innkeeper dead-letters show 3@17", "innkeeper dead-letters show 3@17 --json"))
def show_command(
    id: Annotated[str, typer.Argument(metavar="PARTITION@OFFSET", help="As `list` shows it.")], as_json: Json = False
) -> None:
    """Show one dead letter whole: its headers and bytes, and the positions before and after its origin.

    Exit status: 0 shown; 1 there is no such dead letter; 2 the broker or the database does not answer.
    """
    from operators.cli import dead_letters

    dead_letters.show(id, as_json=as_json)


@app.command(
    "replay",
    epilog=examples(
        "innkeeper dead-letters replay 3@17 --yes",
        "innkeeper dead-letters replay --all --topic stripe.webhooks --since 1d",
        "innkeeper dead-letters replay --all --type 'booking.*' --yes --json",
    ),
)
def replay_command(
    ids: Ids = None,
    every: All = False,
    topic: OfTopic = None,
    kind: OfType = None,
    reason: OfReason = None,
    since: Since = None,
    again: Annotated[bool, typer.Option("--again", help="Also those whose replay began and was interrupted.")] = False,
    wait: Annotated[
        float,
        typer.Option(metavar="SECONDS", min=0, help="How long to wait until each is read; 0: do not wait."),
    ] = 15.0,
    by: By = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Send dead letters to the topics they came from: the same bytes, key and headers, each once.

    Of use after an upgrade, when a worker can read what it could not read before. A record that still cannot be read
    comes back as another dead letter; the command then stops. The operator and the time are recorded.

    Exit status: 0 all were read; 1 refused, came back, not read in time, or only printed the plan; 2 the broker
    or the database does not answer.
    """
    from operators.cli import dead_letters

    dead_letters.replay(
        ids,
        every=every,
        topic=topic,
        kind=kind,
        reason=reason,
        since=since,
        again=again,
        wait=wait,
        by=by,
        yes=yes,
        as_json=as_json,
    )


@app.command(
    "discard",
    epilog=examples(
        'innkeeper dead-letters discard 3@17 --note "a test of the partner" --yes',
        'innkeeper dead-letters discard --all --reason "not JSON" --note "junk" --yes',
    ),
)
def discard_command(
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why they are not replayed.")],
    ids: Ids = None,
    every: All = False,
    topic: OfTopic = None,
    kind: OfType = None,
    reason: OfReason = None,
    since: Since = None,
    by: By = None,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Mark dead letters as not to be replayed, with the reason. `list` still shows them.

    Exit status: 0 done; 1 refused, or only printed the plan; 2 the broker or the database does not answer.
    """
    from operators.cli import dead_letters

    dead_letters.discard(
        note,
        ids,
        every=every,
        topic=topic,
        kind=kind,
        reason=reason,
        since=since,
        by=by,
        yes=yes,
        as_json=as_json,
    )
