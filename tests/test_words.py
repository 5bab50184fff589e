"""The bans of old words find what they should, and leave what is meant literally alone."""

import pytest

from tests.words import LITERAL, allowed, text, violations


@pytest.mark.parametrize(
    ("path", "source", "found"),
    [
        ("workers/runtime/sample.py", "class Patience: ...\n", "Patience"),
        ("workers/sample.py", "def carry_out() -> None: ...\n", "carry_out"),
        ("workers/sample.py", "def f(run: int) -> None: ...\n", "run"),
        ("operators/sample.py", "told_state = 1\n", "told_state"),
        ("tests/sample.py", "self.has_heard = 1\n", "has_heard"),
        ("ingress/bookings/steps.py", "", "steps"),
        ("ingress/sample.py", "class HotelShown: ...\n", "HotelShown"),
        ("storage/sample.py", "_LONGEST_WAIT = 3\n", "_LONGEST_WAIT"),
        ("operators/sample.py", "letters: list[int] = []\n", "letters"),
        ("operators/sample.py", "for letter in (): ...\n", "letter"),
        ("topics/kafka/sample.py", "def owner() -> None: ...\n", "owner"),
    ],
)
def test_an_old_word_in_an_identifier_is_found(path: str, source: str, found: str) -> None:
    assert [violation.found for violation in violations(path, source)] == [found]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("workers/runtime/sample.py", "removed = 1\n"),
        ("workers/sample.py", "def run() -> None: ...\n"),
        ("operators/sample.py", "dead_letters = 1\n"),
        ("operators/sample.py", "print(event.told)\n"),
        ("tests/sample.py", "stand_in = 1\n"),
        ("ingress/sample.py", "owner = 1\n"),
        ("workers/payments/steps.py", ""),
    ],
)
def test_a_standard_word_is_left_alone(path: str, source: str) -> None:
    assert list(violations(path, source)) == []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("sample.py", '"""A module.\n\nWhat a pause made the agent drop is not done.\n"""\n'),
        ("sample.py", "# Whoever waits\n# is answered.\n"),
        ("sample.py", "# It waits. Who gives up is gone from here too.\n"),
        ("sample.py", "def test_what_is_owed() -> None: ...\n"),
        ("sample.py", '"""Where the broker differs from the catalogue."""\n'),
        ("workers/sample.py", 'log.info("the room is told")\n'),
        ("sample.py", "# A timeline tells of it.\n"),
        ("sample.md", "A text.\n\nIt stands on the log.\n"),
        ("sample.md", "The ledger lives in PostgreSQL.\n"),
        ("sample.md", "The check I12 failed.\n"),
        ("sample.md", "A transaction for a run of commands.\n"),
        ("sample.md", "| a | The room's owner decides. |\n"),
        ("sample.yml", "a: 1  # Nobody hears of it.\n"),
        ("sample.yml", "          description: Nobody hears of it.\n"),
        ("sample.sql", "-- What was told last holds.\n"),
        ("sample.py", "# The header says so.\n"),
        ("sample.py", '"""It prints what was said."""\n'),
        ("sample.py", "def test_the_page_says_how() -> None: ...\n"),
        ("sample.py", "# A cursor is not signed: whatever a client writes is read.\n"),
        ("sample.py", "# The version moved on; who insists on one\n# waits.\n"),
        ("sample.py", "# It must mean it, and what was done is written down.\n"),
        ("sample.py", "# They end, and what they decided is not known.\n"),
        ("sample.py", "# It is late, and who is alone is waited for.\n"),
        ("sample.py", "# It counts once, whatever fails.\n"),
        ("sample.lua", "-- It tells at the end.\n"),
        ("deploy/sample.conf.template", "# The header says so.\n"),
        ("deploy/sample.json", '{\n  "title": "What rooms decided"\n}\n'),
        ("ingress/sample.html", "<p>\n<b>Here</b> the API says so.</p>\n"),
        ("ingress/sample.html", "<!-- The API says so. -->\n"),
    ],
)
def test_an_old_form_of_a_sentence_is_found(path: str, source: str) -> None:
    assert list(violations(path, source)) != []


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("sample.py", '"""A module. What happened to this booking?"""\n'),
        ("sample.py", "# Where a container engine runs, testcontainers is used.\n"),
        ("sample.py", "# It returns what the caller asked for.\n"),
        ("sample.py", "# The Stripe stand-in, and `told` in code.\n"),
        ("sample.py", "def test_one_guest_leaves_on_the_day_the_next_arrives() -> None: ...\n"),
        ("tests/sample.py", 'assert page == "it is told"\n'),
        ("sample.md", "Old words are code: `What`, `told`.\n\n```\nWhat a pause told\n```\n"),
        ("sample.md", "An I/O error, and the type I18N.\n"),
        ("sample.py", "# The guest, who pays at the hotel, and what it waits for.\n"),
        ("sample.py", "# Is it late, and who is alone?\n"),
        ("sample.py", "# An essay, and a sailor.\n"),
        ("ingress/sample.html", "<style>a { content: 'what it says' }</style><p class='says so'>Welcome.</p>\n"),
        ("deploy/sample.json", '{\n  "expr": "what says so"\n}\n'),
        ("sample.md", "A [link](what/told.md) is no prose, nor is [workers/obligations.py](x).\n"),
    ],
)
def test_plain_english_is_left_alone(path: str, source: str) -> None:
    assert list(violations(path, source)) == []


def test_a_violation_names_the_line_of_the_word_itself() -> None:
    [violation] = violations("sample.py", '"""A module.\n\nIt is fine. A record is\ntold here.\n"""\n')

    assert violation.line == 4


def test_every_literal_use_is_still_there_and_has_its_reason() -> None:
    assert [use for use in LITERAL if not use.reason.endswith(".")] == []
    assert [
        use
        for use in LITERAL
        if not any(
            use.text in text(use.path).splitlines()[found.line - 1] and allowed(found)
            for found in violations(use.path, text(use.path))
        )
    ] == []
