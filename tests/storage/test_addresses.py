"""Addresses of PostgreSQL: every form of libpq is understood, and none is shown where it is refused."""

import subprocess
import sys
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as some
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from storage import addresses
from storage.database import parameters, worker_limits
from storage.settings import DatabaseSettings

#: libpq takes any character but NUL, and percent-encoded bytes must be UTF-8.
words = some.text(some.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)
names = some.from_regex(r"[a-z][a-z0-9.-]{0,10}", fullmatch=True)
hosts = some.one_of(names, some.just("10.0.0.7"), some.from_regex(r"/[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True))


@some.composite
def wanted(draw: some.DrawFn) -> dict[str, str]:
    """Parameters as an operator may want them."""
    found = {"dbname": draw(words), "user": draw(words), "password": draw(words)}
    several = draw(some.lists(hosts, min_size=1, max_size=3))
    found["host"] = ",".join(several)
    found["port"] = ",".join(str(draw(some.integers(1, 65535))) for _ in several)
    if draw(some.booleans()):
        found["hostaddr"] = ",".join(["127.0.0.1"] * len(several))
    if draw(some.booleans()):
        found["target_session_attrs"] = draw(some.sampled_from(["any", "read-write", "standby"]))
    if draw(some.booleans()):
        found["options"] = f"-csearch_path={draw(names)}"
    return found


def as_url(found: dict[str, str]) -> str:
    """Write the parameters as a URL, hosts with their ports where its form has a place for them."""
    pairs = zip(found["host"].split(","), found["port"].split(","), strict=True)
    places = ",".join(f"{quote(host, safe='')}:{port}" for host, port in pairs)
    more = "&".join(
        f"{name}={quote(value, safe='')}"
        for name, value in found.items()
        if name not in {"dbname", "user", "password", "host", "port"}
    )
    user, password, name = (quote(found[each], safe="") for each in ("user", "password", "dbname"))
    return f"postgresql://{user}:{password}@{places}/{name}?{more}"


@given(wanted())
def test_a_url_and_keywords_of_the_same_parameters_are_the_same_address(found: dict[str, str]) -> None:
    assert addresses.parse(as_url(found)) == found
    assert addresses.parse(make_conninfo("", **found)) == found


@given(wanted())
def test_a_connection_gets_the_address_with_our_own_parameters(found: dict[str, str]) -> None:
    settings = DatabaseSettings(_env_file=None, database_url=as_url(found))
    given_to_libpq = parameters(settings, "innkeeper test", worker_limits(settings), {"jit": "off"})
    for ours in ("answer_seconds", "transaction_seconds"):
        del given_to_libpq[ours]
    # As libpq itself reads what psycopg writes out of it.
    read = conninfo_to_dict(make_conninfo("", **given_to_libpq))

    assert {name: read[name] for name in found if name != "options"} == {
        name: value for name, value in found.items() if name != "options"
    }
    assert str(read["options"]).startswith(found.get("options", "-c statement_timeout="))
    assert str(read["options"]).endswith(" -c jit=off")
    assert read["application_name"] == "innkeeper test"


@given(some.lists(wanted(), max_size=4), some.sampled_from([",", ", ", ",\n"]))
def test_a_list_of_addresses_with_several_hosts_each_comes_apart_between_addresses_alone(
    many: list[dict[str, str]], comma: str
) -> None:
    urls = [as_url(found) for found in many]
    settings = DatabaseSettings(_env_file=None, database_read_urls=comma.join(urls))
    assert list(settings.read_addresses) == urls


def test_a_list_may_have_addresses_of_both_forms() -> None:
    of = "host=a,b port=1,2 dbname=x,postgres://c/x, hostaddr=127.0.0.1 user=u"
    assert addresses.split(of) == ["host=a,b port=1,2 dbname=x", "postgres://c/x", "hostaddr=127.0.0.1 user=u"]


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "it is empty"),
        ("postgres//someone:secret@h/name", "this is no address of PostgreSQL;"),
        ("postgresql+psycopg://someone:secret@h/name", "this is no address of PostgreSQL;"),
        ("postgresql://someone:secret%zz@h/name", "invalid percent-encoded token"),
        ("postgresql://someone:secret@h/name?secret=1", "invalid URI query parameter"),
        ("host=h password='secret", "unterminated quoted string"),
        ("host=h password=secret port=secret", "a port in it is no number"),
        ("postgresql://someone:secret@h:99999/name", "a port in it is no number"),
        ("host=a,b,c port=1,2 password=secret", "2 ports for 3 hosts"),
        ("host=a,b hostaddr=127.0.0.1 password=secret", "2 hosts but 1 addresses"),
        ("postgresql://someone:secret@h/name?target_session_attrs=secret", "target_session_attrs is none of any,"),
        ("postgresql://someone:secret@h/name?sslmode=secret", "sslmode is none of disable,"),
        ("service=secret", "a service file"),
    ],
)
def test_an_address_that_cannot_be_served_is_refused_in_a_sentence_without_any_of_it(address: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as refused:
        addresses.parse(address)
    assert "secret" not in str(refused.value)


def test_a_service_of_the_environment_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGSERVICE", "mine")
    with pytest.raises(ValueError, match="PGSERVICE"):
        addresses.parse("postgresql://h/name")


def test_options_of_the_environment_are_kept_where_the_address_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c search_path=mine")
    assert addresses.parse("postgresql://h/name")["options"] == "-c search_path=mine"
    assert addresses.parse("postgresql://h/name?options=-cjit%3Doff")["options"] == "-cjit=off"


def test_of_several_hosts_the_writable_one_is_used_unless_the_address_names_another() -> None:
    def of(address: str) -> str | None:
        return DatabaseSettings(_env_file=None, database_url=address).parameters().get("target_session_attrs")

    assert of("postgresql://a,b/name") == "read-write"
    assert of("postgresql://a,b/name?target_session_attrs=any") == "any"
    assert of("postgresql://a/name") is None


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("postgresql://someone:secret@h1:5433,h2/name", "h1:5433, h2:5432"),
        ("host=h1,h2 port=5433 password=secret", "h1:5433, h2:5433"),
        ("host=/var/run/postgresql password=secret", "/var/run/postgresql:5432"),
        ("hostaddr=10.0.0.7 password=secret", "10.0.0.7:5432"),
        ("password=secret", "localhost:5432"),
    ],
)
def test_a_log_shows_the_hosts_alone(address: str, shown: str) -> None:
    assert addresses.shown(address) == shown


@pytest.mark.process
@pytest.mark.parametrize(
    "program",
    [
        ["-m", "storage", "migrate"],
        ["-m", "operators", "lag"],
        ["-m", "operators", "worker", "expiry"],
        ["-m", "operators", "ingress"],
    ],
    ids=" ".join,
)
def test_every_program_refuses_a_wrong_address_in_one_sentence(program: list[str], environment: dict[str, str]) -> None:
    ended = subprocess.run(
        [sys.executable, *program],
        env=environment | {"DATABASE_URL": "postgres//someone:secret@h/name", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 78
    assert ended.stderr.splitlines()[-1].startswith("DATABASE_URL: this is no address of PostgreSQL; write it as ")
    assert "secret" not in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
