"""The page about the topics and everything that travels on them, made from the AsyncAPI document: HTML, no script."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from topics.schemas import field_type

_Json = Mapping[str, Any]


def events_page(document: _Json, style: str) -> str:
    """Return the page; `style` is the address of its style sheet."""
    messages: _Json = document["components"]["messages"]
    groups = [
        (name, [messages[message_type] for message_type in channel["messages"]])
        for name, channel in sorted(document["channels"].items(), key=_public_first)
        if channel["messages"]
    ]
    words = document["components"]["schemas"]
    return _EVENTS_PAGE.format(
        style=escape(style),
        title=escape(document["info"]["title"]),
        about="".join(f"<p>{_prose(part)}</p>" for part in document["info"]["description"].split("\n\n")),
        contents="".join(_contents(name, found) for name, found in groups),
        topics=_topics(document),
        messages="".join(_group(name, found, words) for name, found in groups),
        values="".join(_value(name, words[name]) for name in _named_in_fields(words)),
    )


def _named_in_fields(words: _Json) -> Sequence[str]:
    """Return the names of the objects and words that fields have, which are described once, after the messages."""
    found = re.findall(r'"#/components/schemas/(\w+)"', json.dumps(words))
    return sorted(set(found))


def _value(name: str, schema: _Json) -> str:
    about = "".join(f"<p>{_prose(part)}</p>" for part in schema.get("description", "").split("\n\n"))
    listed = "enum" in schema
    body = f"<p>{', '.join(f'<code>{word}</code>' for word in schema['enum'])}</p>" if listed else _fields(schema)
    return f'<section id="{name}"><h3><a href="#{name}">{name}</a></h3>{about}{body}</section>'


def _public_first(channel: tuple[str, _Json]) -> bool:
    return not channel[0].endswith("events")


def _contents(topic: str, messages: Iterable[_Json]) -> str:
    links = (f'<li><a href="#{message["name"]}">{message["name"]}</a></li>' for message in messages)
    return f'<h2><a href="#{topic}">{topic}</a></h2><ul>{"".join(links)}</ul>'


def _topics(document: _Json) -> str:
    rows = []
    for name, channel in document["channels"].items():
        milliseconds = channel["bindings"]["kafka"]["topicConfiguration"]["retention.ms"]
        retention = "for ever" if milliseconds < 0 else f"{milliseconds // 86_400_000} days"
        writers, readers = (", ".join(_services(document, name, action)) for action in ("send", "receive"))
        rows.append((f"<code>{name}</code>", writers, readers, retention))
    return _table(("topic", "written by", "read by", "retention"), rows)


def _services(document: _Json, topic: str, action: str) -> Iterator[str]:
    for name, operation in document["operations"].items():
        if operation["action"] == action and operation["channel"]["$ref"] == f"#/channels/{topic}":
            yield name.partition(".")[0]


def _group(topic: str, messages: Iterable[_Json], words: _Json) -> str:
    return f'<h2 id="{topic}">{topic}</h2>{"".join(_message(message, words) for message in messages)}'


def _message(message: _Json, words: _Json) -> str:
    (example,) = message["examples"]
    parts = [f"<p>{_prose(part)}</p>" for part in message["description"].split("\n\n")]
    if "x-when" in message:
        answers = " or ".join(f"<code>{message_type}</code>" for message_type in message["x-answers"])
        parts.append(f"<p><b>When:</b> {_prose(message['x-when'])}</p><p><b>Answers</b> {answers}.</p>")
    parts += [
        _fields(words[message["payload"]["$ref"].rpartition("/")[2]]),
        f"<details><summary>Example</summary>{_code(example['headers'])}{_code(example['payload'])}</details>",
    ]
    name = message["name"]
    kind = ' class="older"' if "x-replaced-by" in message else ""
    return f'<section id="{name}"{kind}><h3><a href="#{name}">{name}</a></h3>{"".join(parts)}</section>'


def _fields(schema: _Json) -> str:
    required = set(schema.get("required", ()))
    return _table(
        ("field", "type", "default"),
        [
            (
                f"<code>{name}</code>",
                field_type(field, lambda value: f'<a href="#{value}">{value}</a>'),
                "required" if name in required else f"<code>{escape(json.dumps(field['default']))}</code>",
            )
            for name, field in schema["properties"].items()
        ],
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; the cells are HTML."""
    titles = "".join(f"<th>{title}</th>" for title in head)
    lines = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table>"


def _prose(text: str) -> str:
    """Return text as HTML; text between backticks is code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))


def _code(value: object) -> str:
    return f"<pre>{escape(json.dumps(value, indent=2, ensure_ascii=False), quote=False)}</pre>"


_EVENTS_PAGE = """\
<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8">
    <meta name="viewport" content="width=device-width, initial-scale=1">
    <title>Innkeeper: commands and events</title>
    <link rel="icon" href="data:,">
    <link rel="stylesheet" href="{style}">
  </head>
  <body>
    <nav>{contents}<h2><a href="#values">Values</a></h2></nav>
    <main>
      <h1>{title}</h1>
      {about}
      <p>The same for programs: <a href="asyncapi.json">asyncapi.json</a> (AsyncAPI 3.0).</p>
      {topics}
      {messages}
      <h2 id="values">Values</h2>
      {values}
    </main>
  </body>
</html>
"""
