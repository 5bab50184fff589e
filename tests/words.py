"""Finds the old words of this project, in identifiers and in prose: `python -m tests.words [PATH ...]` lists them.

docs/glossary.md has the words to use. `tests/test_repository.py` fails when this list is not empty.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = ("topics", "pricing", "storage", "telemetry", "workers", "ingress", "operators", "sandbox")
#: The ends of files whose comments are read.
_COMMENTED: Final = (".toml", ".yml", ".yaml", ".sql", ".sh", ".lua", ".template", ".conf", "Makefile", "Dockerfile")
#: Packages whose pages and dashboards people see.
_SHOWN: Final = ("deploy/", "benchmarks/", "ingress/")
#: Alembic's revisions are history; the bans themselves have to name what they ban.
_UNREAD: Final = ("storage/migrations/versions/", "tests/words.py", "tests/test_words.py")


@dataclass(frozen=True, slots=True)
class Name:
    """A banned part of identifiers.

    `old` is matched against the identifier in snake case, between underscores: `moved` finds `Moved` and `has_moved`,
    and not `removed`. `kinds` limits it to some of class, function, variable, module; `under` limits it to paths that
    begin so. The names of tests are sentences: FORMS are for them.
    """

    old: str
    instead: str
    kinds: str = "class function variable module"
    under: tuple[str, ...] = ("",)

    def found_in(self, identifier: str, kind: str, path: str) -> bool:
        """Return whether the identifier has the old word in it."""
        return (
            kind in self.kinds.split()
            and path.startswith(self.under)
            and _pattern(self.old).search(snake(identifier)) is not None
        )


@dataclass(frozen=True, slots=True)
class Form:
    """A banned form of prose: a pattern, and the plain English for it."""

    old: re.Pattern[str]
    instead: str
    under: tuple[str, ...] = ("",)


@dataclass(frozen=True, slots=True)
class Literal:
    """A place where a banned word is meant literally. `text` is a part of the line."""

    path: str
    text: str
    reason: str


@dataclass(frozen=True, slots=True, order=True)
class Violation:
    """One old word: `path:line`, what was found, and what to write instead."""

    path: str
    line: int
    found: str
    instead: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.found!r}: {self.instead}"


#: Limits are MAX_... and MIN_..., whatever they limit.
LIMITS: Final = re.compile(r"_?(?:MOST|LONGEST|LARGEST|BIGGEST|LEAST|SHORTEST|SMALLEST)_")
NAMES: Final = (
    Name("patience|patient", "Backoff, retry"),
    Name("^_?runs?$", "PartitionBatch", "class", PACKAGES),
    Name("^_?runs?$", "batch", "variable", ("workers/", "storage/")),
    Name("carry_out|carried_out|carries_out|carrying_out", "process"),
    Name("^_?(?:places?|origins?)$", "TopicPartition, LogPosition", "class"),
    Name("origins?", "position", "variable function", ("workers/", "storage/", "topics/", "operators/")),
    Name("holes?", "OffsetGap, gap", under=("workers/", "storage/")),
    Name("moved", "Fenced, or next_status", under=("workers/", "storage/", "operators/", "ingress/")),
    Name("take_over|taken_over|takes_over", "on_assigned"),
    Name("hand_over|handed_over|hands_over", "on_revoked"),
    Name("settle|settles|settled", "mark_published", under=("workers/runtime/", "workers/reservations/")),
    Name("acked", "applied or published"),
    Name("marked", "published", under=("workers/",)),
    Name("outcomes?", "outbox, or result", under=("workers/", "storage/", "topics/")),
    Name("incarnations?|life|lives", "generation, history"),
    Name("bury|buries|buried", "dead letter"),
    Name("^(?:letters?|\\w*(?<!dead)_letters?|letters?_\\w+)$", "dead_letter", under=PACKAGES),
    Name("^_?gate$", "PauseGate", "class"),
    Name("shut", "paused", under=("workers/", "tests/workers/")),
    Name("holding", "draining", under=("workers/", "tests/workers/runtime/")),
    Name("hears?|heard|hearing|unheard", "update, read, log reader"),
    Name("^_?watch$|census", "BatchMetrics, HoldMetrics", "class"),
    Name("measuring", "metrics"),
    Name("wire", "message_type, event_type"),
    Name("stands?(?!_in)|stood", "is stored, RecordMetadata"),
    Name("lanes?", "PartitionQueue"),
    Name("^_?nodes?$", "BrokerQueue", "class"),
    Name("told_by", "Service, services"),
    Name("asking", "RetrySchedule", under=("workers/",)),
    Name("^_?(?:meaning|ours|key_spent)$", "WebhookEffect, BookingRef, IdempotencyKeyExhausted", "class", PACKAGES),
    Name("obligations?|owed|owes?", "pending Stripe call, due"),
    Name("^(?:moves|still)$", "TRANSITIONS, NO_TRANSITION", "variable", ("workers/decisions/", "operators/")),
    Name("going_on|goes_on|go_on|went_on", "resume"),
    Name("retell\\w*", "apply, replay"),
    Name("described", "backup check", "module"),
    Name("numbering", "sequences", under=("operators/",)),
    Name("^keep$", "save", "function", ("storage/", "operators/restore/")),
    Name("^_?(?:stretch|move|played)$", "ReplayRange, CursorRewind, ReplayResult", "class"),
    Name("stretch\\w*", "replay range"),
    Name("harms?", "blocked reason"),
    Name("occasions?", "event triggers"),
    Name("^_?following$", "wait for consumer", "class module"),
    Name("tells?|told|telling", "snapshot, load, apply, report"),
    Name("^_?(?:life|story|mirror|heard)$", "BookingHistory, ExpectedLedger, ExpectedReadModels", "class module"),
    Name("story|mirror", "ExpectedLedger, ExpectedReadModels", under=("operators/",)),
    Name("fold|folds|folded", "apply"),
    Name("asked", "RequestContext, request", under=("ingress/", "tests/ingress/")),
    Name("^_?(?:answer|reply)$", "Response, ResponseSpec", "class", ("ingress/",)),
    Name("^\\w+_(?:shown|wanted)$|^(?:shown|wanted)$", "...Out, ...In", "class", ("ingress/",)),
    Name("^_?(?:copy|news|seen|words)$", "SearchIndex, Delta, index position, models", "class module", ("ingress/",)),
    Name("as_one", "snapshot"),
    Name("^owners$", "PartitionLeaders, Booking lookup", "class module", ("ingress/log/",)),
    Name("^steps$", "handlers", "module", ("ingress/",)),
    Name("owners?", "assigned worker", under=("workers/", "topics/", "operators/")),
    Name("ledger", "ledger is the reservations' tables alone", "class module", ("sandbox/",)),
    Name("^ledger$", "ledger is the reservations' tables alone", "class", ("workers/runtime/",)),
)

_FIRST: Final = "a named subject first"
#: Nothing after it asks: a question may begin with any of these words.
_NO_QUESTION: Final = r"(?![^.;:|]*\?)"
#: A verb that can be the main one of a clause.
_VERB: Final = r"(?:is|are|was|were|must|may|can|goes|comes|gets|stays|begins|ends|waits)"

FORMS: Final = (
    Form(re.compile(r"\b(?:Who|What|Whoever|Whatever|Whose)\b(?! \|)(?![^.;:|]*\?)[^.|]*"), _FIRST),
    Form(re.compile(r"\bWhere\b(?![^.;:|]*\?)[^,.;:|]*(?:\.|$)"), _FIRST),
    # Such a clause inside a sentence: after a colon or a semicolon it is one always, after a comma or `and` where a
    # second verb follows its own. "The guest, who pays" and "what it waits for" are left alone.
    Form(re.compile(rf"[:;]\s(?:who|what|whose)\b{_NO_QUESTION}[^.|;]*", re.IGNORECASE), "a subject with a name"),
    Form(re.compile(rf"(?:[:;,]\s|\band\s)(?:whoever|whatever)\b{_NO_QUESTION}"), "everyone who, every ... that"),
    Form(
        re.compile(
            rf"(?:,\s|\band\s){_NO_QUESTION}(?:what\s(?:(?:it|we|they|(?:an?|the)\s\w+)\s\w+|{_VERB}|ha[sd]|\w+ed)"
            rf"|who\s\w+)(?:\s\w+){{0,4}}?\s{_VERB}\s"
        ),
        "a subject with a name",
    ),
    Form(re.compile(r"\bsa(?:ys?|id|ying)\b", re.IGNORECASE), "has, names, is, shows, prints"),
    Form(re.compile(r"\b(?:tells?|told|telling)\b", re.IGNORECASE), "shows, returns, reports, stores"),
    Form(re.compile(r"\b(?:hears?|heard|unheard)\b", re.IGNORECASE), "receives, reads, is answered"),
    Form(re.compile(r"\b(?:stands?|stood)\b(?!-in| in for| for\b)", re.IGNORECASE), "is stored, is, is idle"),
    Form(re.compile(r"\b(?:bury|bur(?:y|ies|ied))\b", re.IGNORECASE), "sends to the dead-letter topic"),
    Form(re.compile(r"\b(?:lives?|living) (?:in|on|at|beside|under|below)\b", re.IGNORECASE), "is in, is stored in"),
    Form(re.compile(r"\bincarnations?\b", re.IGNORECASE), "generation"),
    Form(re.compile(r"\b(?:life|lives) of (?:a|the|its) topic\b|\btopic's li(?:fe|ves)\b"), "generation"),
    Form(re.compile(r"\b(?:owed|owes?|obligations?)\b", re.IGNORECASE), "due, a pending Stripe call"),
    Form(re.compile(r"\bwire names?\b", re.IGNORECASE), "message type"),
    Form(
        re.compile(r"\b(?:room|partition)(?:'s|s') owners?\b|\bowners? of (?:a|the|its|their) (?:room's )?partition"),
        "the worker assigned to the partition",
    ),
    Form(re.compile(r"(?<![\w-])I(?:1[0-2]|[1-9])(?![\w-])"), "the check's name"),
    Form(
        re.compile(r"\bruns? of (?:commands|records|events)\b|\b(?:whole|a|the) runs? (?:is|was|are|again)\b"),
        "partition batch",
    ),
)

#: Banned words that are meant literally, with the reason.
LITERAL: Final[tuple[Literal, ...]] = (
    *(
        Literal(path, text, "tests/contracts/published.json froze the description of this type.")
        for path, text in (
            ("topics/messages/events.py", "it stood already, or it is refused"),
            ("topics/messages/events.py", "A Checkout Session is owed for this attempt"),
            ("topics/messages/events.py", "nothing was owed in advance"),
            ("topics/messages/events.py", "`command` is its wire name"),
            ("topics/messages/events.py", "The command's effect stood already"),
            ("docs/states.md", "A Checkout Session is owed for this attempt"),
            ("docs/states.md", "nothing was owed in advance"),
            ("docs/states.md", "`command` is its wire name"),
            ("docs/states.md", "The command's effect stood already"),
            ("docs/messages.md", "it stood already, or it is refused"),
            ("docs/messages.md", "A Checkout Session is owed for this attempt"),
            ("docs/messages.md", "nothing was owed in advance"),
            ("docs/messages.md", "`command` is its wire name"),
            ("docs/messages.md", "The command's effect stood already"),
        )
    ),
    Literal(
        "operators/dead_letters.py", "    origin: LogPosition | None", "A field of /v1/ops/dead-letters has this name."
    ),
    Literal(
        "operators/explain/history.py", "    owed_at: datetime | None", "A field of explain --json and of /v1/ops."
    ),
    Literal("topics/messages/values.py", "    OWNER_USE = ", "The owner of the hotel uses the rooms."),
    Literal("operators/lag.py", "    owner: str | None = None", "A field of lag --json and of /v1/ops/lag."),
    Literal("ingress/operators/models.py", "owed_at: datetime", "A JSON field of the HTTP interface."),
)


@cache
def _pattern(old: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|_)(?:{old})(?:_|$)")


@cache
def snake(identifier: str) -> str:
    """Return an identifier in snake case without leading underscores: `_RunBatch` is `run_batch`."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", identifier)
    return "_".join(words).lower()


@cache
def files() -> list[str]:
    """Return the paths of the repository's files, tracked or about to be."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(listing, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.splitlines() if (ROOT / path).is_file()]


@cache
def text(path: str) -> str:
    """Return a file's text; empty for one that is not text."""
    content = (ROOT / path).read_bytes()
    return "" if b"\0" in content else content.decode()


@lru_cache(maxsize=4)
def nodes(source: str) -> list[ast.AST]:
    """Return all nodes of a module's syntax tree."""
    return list(ast.walk(ast.parse(source)))


def identifiers(path: str, source: str) -> Iterator[tuple[int, str, str]]:
    """Yield line, kind and name of everything that a module defines. Names that it only uses are defined elsewhere."""
    parts = [*Path(path).parts[:-1], Path(path).stem]
    yield from ((1, "module", part) for part in parts[-2:] if part != "__init__")
    for node in nodes(source):
        match node:
            case ast.ClassDef():
                yield node.lineno, "class", node.name
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.lineno, "test" if node.name.startswith("test_") else "function", node.name
            case ast.arg():
                yield node.lineno, "variable", node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, _kind_of(node.id), node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, "variable", node.attr
            case _:
                pass


def _kind_of(name: str) -> str:
    """Return `class` for a name in capitals and small letters, as a type alias has it."""
    return "class" if re.match(r"_?[A-Z]\w*[a-z]", name) else "variable"


def prose(path: str, source: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of the sentences of a file: paragraphs, docstrings, comments, texts that people see."""
    if path.endswith(".py"):
        yield from _docstrings_and_texts(path, source)
        yield from _comments(source)
        yield from _names_of_tests(path, source)
    elif path.endswith(".md"):
        yield from _paragraphs(source)
    elif path.endswith(_COMMENTED) or path.startswith(".ci/"):
        yield from _line_comments(source)
    elif path.startswith(_SHOWN) and path.endswith(".html"):
        yield from _shown_text(source)
    elif path.startswith(_SHOWN) and path.endswith(".json"):
        yield from _titles(source)


def _docstrings_and_texts(path: str, source: str) -> Iterator[tuple[int, str]]:
    lines = source.splitlines()
    for node in nodes(source):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            is_docstring = lines[node.lineno - 1].lstrip().startswith(('"""', 'r"""'))
            if is_docstring or path.split("/", maxsplit=1)[0] in (*PACKAGES, "docs"):
                yield node.lineno, node.value


def _names_of_tests(path: str, source: str) -> Iterator[tuple[int, str]]:
    for line, kind, name in identifiers(path, source):
        if kind == "test":
            yield line, name.removeprefix("test_").replace("_", " ").capitalize()


def _comments(source: str) -> Iterator[tuple[int, str]]:
    """Yield blocks of comment lines, so that a sentence may go over several."""
    block: list[tuple[int, str]] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if block and (token.start[0] != block[-1][0] + 1 or not token.line.lstrip().startswith("#")):
                yield block[0][0], "\n".join(line for _, line in block)
                block = []
            block.append((token.start[0], token.string.lstrip("#: ")))
    if block:
        yield block[0][0], "\n".join(line for _, line in block)


def _line_comments(source: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(source.splitlines(), 1):
        if comment := re.search(r"(?:^|\s)(?:#|--)\s(.+)", line):
            yield number, comment[1]
        elif described := re.match(r"\s*(?:summary|description): (.+)", line):
            yield number, described[1]


def _shown_text(source: str) -> Iterator[tuple[int, str]]:
    """Yield the texts between the tags of a page, and its comments."""
    code = r"<(?:style|script)\b.*?</(?:style|script)>|<[^!][^>]*>"
    plain = re.sub(code, lambda match: re.sub(r"[^\n]", "\0", match[0]), source, flags=re.DOTALL)
    for text_between in re.finditer(r"[^\0]+", plain):
        if " " in text_between[0].strip():
            yield plain[: text_between.start()].count("\n") + 1, text_between[0].strip("\n")


def _titles(source: str) -> Iterator[tuple[int, str]]:
    """Yield the titles and descriptions in a JSON file, such as a dashboard."""
    for number, line in enumerate(source.splitlines(), 1):
        if titled := re.match(r'\s*"(?:title|description|summary|text|content)": "((?:[^"\\]|\\.)*)"', line):
            yield number, titled[1]


def _paragraphs(source: str) -> Iterator[tuple[int, str]]:
    plain = re.sub(r"^```.*?^```$", _blank, source, flags=re.DOTALL | re.MULTILINE)
    number = 1
    for paragraph in re.split(r"(\n\s*\n)", plain):
        if paragraph.strip():
            yield number, paragraph
        number += paragraph.count("\n")


def _blank(match: re.Match[str]) -> str:
    return "\n" * match[0].count("\n")


def _without_code(words: str) -> str:
    """Blank what is code or a link's target, at the same length, so that lines can still be counted."""
    code = r"`[^`\n]*`|\[[\w./-]*/[\w./-]*\](?:\([^)\s]*\))?|\]\([^)\s]*\)|https?://\S+"
    return re.sub(code, lambda match: "_" * len(match[0]), words)


def _begins_a_sentence(words: str, start: int) -> bool:
    before = words[:start].rstrip(" \n*_\"'(>#|-")
    return (
        not before or before[-1] in ".!?:;" or "\n\n" in words[len(before) : start] or "|" in words[len(before) : start]
    )


def violations(path: str, source: str) -> Iterator[Violation]:
    """Yield every old word of one file."""
    if path.endswith(".py"):
        for line, kind, name in identifiers(path, source):
            for banned in NAMES:
                if banned.found_in(name, kind, path):
                    yield Violation(path, line, name, banned.instead)
            if LIMITS.match(name):
                yield Violation(path, line, name, "MAX_..., MIN_...")
    for line, words in prose(path, source):
        plain = _without_code(words)
        for form in FORMS:
            for found in form.old.finditer(plain):
                if form.instead == _FIRST and not _begins_a_sentence(plain, found.start()):
                    continue
                number = line + plain[: found.start()].count("\n")
                shown = " ".join(words[max(0, found.start() - 20) : found.end() + 20].split())
                yield Violation(path, number, shown[:90], form.instead)


def allowed(violation: Violation) -> bool:
    """Return whether the word is meant literally there."""
    line = text(violation.path).splitlines()[violation.line - 1] if text(violation.path) else ""
    return any(literal.path == violation.path and literal.text in line for literal in LITERAL)


def all_violations(under: Sequence[str] = ("",)) -> list[Violation]:
    """Return every old word of the repository, or of the paths that begin so, but for literal uses."""
    found = {
        violation
        for path in files()
        if path.startswith(tuple(under)) and not path.startswith(_UNREAD) and text(path)
        for violation in violations(path, text(path))
    }
    return sorted(violation for violation in found if not allowed(violation))


def report(remaining: Sequence[Violation]) -> str:
    """Return what remains, the files with the most first, and at the end the total."""
    counts = Counter(violation.path for violation in remaining)
    lines = []
    for path, count in counts.most_common():
        lines += [f"{path}: {count}", *(f"  {violation}" for violation in remaining if violation.path == path), ""]
    return "\n".join([*lines, f"{len(remaining)} old words in {len(counts)} files"])


def main(under: Sequence[str]) -> int:
    """Print what remains; return the exit status: 1 when something does."""
    remaining = all_violations(under or ("",))
    sys.stdout.write(report(remaining) + "\n")
    return 1 if remaining else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
