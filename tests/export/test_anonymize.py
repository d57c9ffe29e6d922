"""Anonymised audits: the same verdicts, and nothing that says whose network it is."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analyzer import Audit, CaptureError, anonymous, audit, cli
from analyzer.conversations import Conversations
from analyzer.expected import UsageError
from analyzer.export.anonymize import Anonymizer, vocabulary
from analyzer.export.pseudonyms import Pseudonyms
from analyzer.messages import Facts, to_json
from analyzer.pipeline import list_flows
from analyzer.protocols import Dissection
from analyzer.reports import FORMATS
from analyzer.reports import json as json_report
from analyzer.reports import text as text_report
from analyzer.safetext import SafeText
from tests import injection, samples
from tests.reports.audits import EXAMPLE, finding, flow
from tests.reports.rendering import rendered
from tests.synthetic import HTTP, OTHER, STATION, TLS, TPE, Traffic

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
KEY = bytes(range(32))
BOUNDS = r"(?<![\w.:-]){}(?![\w:-]|\.\w)"


@cache
def both(name: str) -> tuple[Audit, Audit]:
    """A shipped capture's audit, and the same anonymised."""
    result = audit(samples.files(name))
    return result, anonymous(result, KEY)


# -- what must not be there --------------------------------------------------------------------------------------

NAMES = {
    *("server_name", "host_name", "host", "user", "subject", "issuer", "path", "listings", "identities", "lrr_ids"),
    *("answers", "queries", "truncated", "names", "host_key_fingerprint", "initiator_spi", "responder_spi", "spis"),
}
"""Keys of the JSON report below which every text is, or has, a name."""

SAME_EVERYWHERE = {"ftp", "lrr", "/"}
"""Names in the captures that are words of the protocols as well."""


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a JSON value, keys of objects among them, with the nearest key that is a name of a field."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield key, name
            yield from texts(part, name if name in NAMES or key not in NAMES else key)
    elif isinstance(value, list):
        for part in value:
            yield from texts(part, key)
    elif isinstance(value, str):
        yield key, value


def originals(result: Audit) -> set[str]:
    """Addresses, hardware addresses and names of an audit, as they stand in its JSON report."""
    found: set[str] = {capture.path for capture in result.captures}
    for key, text in texts(json.loads(json_report.render(result))):
        found |= addresses(text)
        if key in NAMES:
            found |= {text, *re.split(r"[,+]?[A-Z]+=", text)} if "=" in text else {text}
    return {each for each in found if len(each) > 1 and not each.isdigit()} - SAME_EVERYWHERE - NAMES


def addresses(text: str) -> set[str]:
    """Addresses and hardware addresses of hosts in a text."""
    found = set(re.findall(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", text)) - {"ff:ff:ff:ff:ff:ff"}
    for each in re.findall(r"[0-9]+(?:\.[0-9]+){3}|[0-9a-f]*:[0-9a-f:.]+", text):
        try:
            address = ipaddress.ip_address(each.rstrip(":."))
        except ValueError:
            continue
        named = address.is_multicast or address.is_loopback or address.is_unspecified
        if not named and str(address) != "255.255.255.255" and int(address) >> 24:
            found.add(str(address))
    return {each for each in found if not each.startswith(("33:33:", "01:00:5e:"))}


def absent(values: set[str], said: str) -> None:
    folded = said.casefold()
    for value in sorted(values):
        if value.casefold() in folded:  # first the quick question
            assert not re.search(BOUNDS.format(re.escape(value.casefold())), folded), value


@pytest.mark.parametrize("name", samples.names())
def test_no_format_says_whose_network_it_is(name: str) -> None:
    result, shareable = both(name)
    values = originals(result)
    assert values
    for report in FORMATS:
        try:
            said = rendered(report, shareable)
        except pytest.skip.Exception:
            continue  # a format whose extra is not installed is tested where it is
        absent(values, said if isinstance(said, str) else said.decode("latin-1"))
    absent(values, repr(shareable))
    absent(values, shareable._repr_html_())
    for frame in (shareable.flows_frame(), shareable.findings_frame(), shareable.rows_frame()):
        absent(values, frame.to_csv())


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS is not set")
def test_no_capture_of_the_corpus_says_whose_network_it_is() -> None:
    read = 0
    for path in sorted(Path(CORPUS or "").iterdir()):
        try:
            result = audit(path)
        except CaptureError:
            continue
        values = {each for each in originals(result) if not re.match(r"local(host)?$|127\.", each)}
        absent(values, json_report.render(anonymous(result, KEY)))
        read += 1
    assert read > 10


@pytest.mark.parametrize("name", samples.names())
def test_the_verdicts_are_the_same(name: str) -> None:
    result, shareable = both(name)
    assert shareable.totals == result.totals and shareable.fails() == result.fails()
    assert [verdicts(each) for each in shareable.base_stations] == [verdicts(each) for each in result.base_stations]
    assert [evidence(each) for each in shareable.findings] == [evidence(each) for each in result.findings]
    flows = [(each.id, each.transport, each.protocol, each.state, each.packets, each.first) for each in result.flows]
    assert flows == [
        (each.id, each.transport, each.protocol, each.state, each.packets, each.first) for each in shareable.flows
    ]
    assert shareable.flow_rows == result.flow_rows and shareable.flow_stations.keys() == result.flow_stations.keys()
    assert len(shareable.names) == len(result.names) and len(shareable.clients) == len(result.clients)


def verdicts(station: Any) -> Any:
    return station.mode, [(each.row, each.status, each.certainty, each.flows) for each in station.rows]


def evidence(each: Any) -> Any:
    return each.check, each.severity, each.kind, each.rows, each.flow, each.count, each.frames, each.time, each.remedy


@pytest.mark.parametrize("name", samples.names())
def test_sentences_lose_their_names_only(name: str) -> None:
    """What was replaced in this program's own sentences was an address, or stands among the facts as a name."""
    result, shareable = both(name)
    values = {each.casefold() for each in originals(result)}
    labels = {label for each in values for label in re.split(r"[^\w-]", each)}
    for one, two in zip(result.findings, shareable.findings, strict=True):
        for before, after in zip(one.summary.split(), two.summary.split(), strict=True):
            if before != after and not addresses(before):
                words = set(re.findall(r"[\w-]+", before.casefold())) - set(re.findall(r"[\w-]+", after.casefold()))
                assert words <= labels, (one.summary, two.summary)


FIELDS = (
    *("eth.src", "eth.dst", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "dns.qry.name", "dns.a", "dns.cname"),
    *("tls.handshake.extensions_server_name", "dhcp.option.hostname", "dhcp.ip.your", "ftp.request.arg", "http.host"),
    *("x509sat.uTF8String", "x509ce.dNSName"),
)
TOLD_BY_TSHARK = ("plain-full-passive", "tls-full-tls12-mutual", "tls-dns-tunnel", "plain-ipv6", "basics-compliant")


@pytest.mark.tshark
@pytest.mark.parametrize("name", TOLD_BY_TSHARK)
def test_nothing_that_tshark_reads_is_there(name: str) -> None:
    (path,) = samples.files(name)
    command = ["tshark", "-r", str(path), "-T", "fields", "-E", "aggregator=\t", *(f"-e{each}" for each in FIELDS)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    values = {each for each in re.split(r"[\t\n]", told) if len(each) > 1 and each not in SAME_EVERYWHERE}
    hosts = {each for each in values if not re.fullmatch(r"[0-9a-f:.]+", each) or addresses(each)}
    assert len(hosts) > 4
    absent(hosts - {each for each in hosts if each.isupper() or each.isdigit()}, json_report.render(both(name)[1]))


# -- what a report is -----------------------------------------------------------------------------------------------


def test_the_report_keeps_its_schema_and_its_community_ids() -> None:
    result, shareable = both("plain-full-passive")
    value, before = (json.loads(json_report.render(each)) for each in (shareable, result))
    jsonschema.Draft202012Validator(json_report.schema()).validate(value)
    changed = 0
    for one, two in zip(value["flows"], before["flows"], strict=True):
        assert one["community_id"] is not None and two["community_id"] is not None
        same = all(one[end] == two[end] for end in ("originator", "responder"))  # special addresses stay
        assert (one["community_id"] == two["community_id"]) == same
        changed += one["community_id"] != two["community_id"]
    assert changed > 5


def test_a_name_is_the_same_wherever_it_stands() -> None:
    _, shareable = both("tls-full-tls12-mutual")
    names = {each for known in shareable.names.values() for each in known}
    facts = json.dumps([to_json(each.dissection.facts) for each in shareable.flows if each.dissection.facts])
    report = text_report.render(shareable)
    assert names and all(name in facts for name in names) and any(f"({name})" in report for name in names)


def test_one_key_gives_one_report_and_another_key_another() -> None:
    (path,) = samples.files("tls-full-tls12-mutual")
    once, again = (json_report.render(anonymous(audit(path), KEY)) for _ in range(2))
    assert once == again != json_report.render(anonymous(audit(path), KEY[::-1]))


def test_a_short_key_is_refused() -> None:
    with pytest.raises(UsageError, match="32 random ones"):
        anonymous(EXAMPLE, KEY[:31])


def test_a_hostile_capture_is_anonymised_as_well(tmp_path: Path) -> None:
    result = audit(injection.save(tmp_path / "a.pcapng"))
    said = json_report.render(anonymous(result, KEY))
    for word in ("owned", "onerror", "calc", "evil"):
        assert word not in said, word


# -- what nobody thought of -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class NewFacts(Facts):
    """Facts of a protocol to come, whose author has never heard of all this."""

    gateway: str
    peers: tuple[str, ...]
    counts: dict[str, int]
    version: SafeText
    token: bytes = b""
    _private: str = "bs-17.berlin.example"


NEW = NewFacts("station", ("server-1", "10.1.2.3"), {"bs-17.berlin.example": 2}, "TLS 1.2 by bs-17", b"berlin")


def with_new() -> Audit:
    """An audit with such facts, and with sentences and filters that repeat them in every way."""
    sentences = (
        "The station server-1 asks bs-17.berlin.example for 10.1.2.3:3001, [2001:db8::17]:22 and 70:76:ff:00:aa:10.",
        "Row i38 expects TLS on tcp/3001, but berlin.example/secret-path?x=1 (CN=bs-17,O=Berlin Werke) is there.",
        "227 Entering Passive Mode (10,1,2,3,195,80) by ip-10-1-2-3 and 10-1-2-3, identifier 7076ff00aa10.",
    )
    filters = 'ip.addr == 10.1.2.3 && tcp.port == 3001 && frame == 70:76:ff:00:aa:10 && ip == "bs-17.berlin.example"'
    return dataclasses.replace(
        EXAMPLE,
        findings=tuple(finding(summary=each, filter=filters) for each in sentences),
        conversations=Conversations((flow(1)._replace(dissection=Dissection("tls", facts=NEW)),)),
    )


def test_a_new_fact_and_a_new_sentence_hide_what_they_name() -> None:
    shareable = anonymous(with_new(), KEY)
    for said in (json_report.render(shareable), text_report.render(shareable), repr(shareable)):
        absent(
            {"server-1", "bs-17", "10.1.2.3", "2001:db8::17", "70:76:ff:00:aa:10", "secret-path", "7076ff00aa10"}, said
        )
        assert not re.search(r"berlin|werke|10,1,2,3|10-1-2-3|" + b"berlin".hex(), said, re.IGNORECASE)
    assert to_json(NEW)["gateway"] == "station"
    (told,) = (json.loads(json_report.render(shareable))["flows"][0]["facts"],)
    assert re.fullmatch("x[a-z2-7]{9}", told["gateway"])
    assert told["version"].startswith("TLS 1.2 by x") and list(told["counts"].values()) == [2]


def test_what_the_program_says_by_itself_stays() -> None:
    first, second, _ = (each.summary for each in anonymous(with_new(), KEY).findings)
    assert re.fullmatch(
        r"The station x\w+ asks x\w+\.x\w+\.x\w+ for 10\.[\d.]+:3001, \[[0-9a-f:]+\]:22 and 70:76:ff:[0-9a-f:]+\.",
        first,
    )
    assert second.startswith("Row i38 expects TLS on tcp/3001, but x") and second.endswith(") is there.")
    (shown,) = {each.filter for each in anonymous(with_new(), KEY).findings}
    assert shown is not None
    assert re.fullmatch(
        r'ip\.addr == 10\.[\d.]+ && tcp\.port == 3001 && frame == 70:76:ff:[0-9a-f:]+ && ip == "x\w+\.x\w+\.x\w+"',
        shown,
    )


def test_a_name_of_several_words_is_not_repeated_even_if_the_program_says_all_of_them() -> None:
    facts = dataclasses.replace(NEW, gateway="CN=login.tls,O=Gateway Service,C=US", peers=("1.2.0.192.in-addr.arpa",))
    sentence = "The certificate of O=Gateway Service, CN=login.tls,O=Gateway Service,C=US, is for login.tls."
    result = dataclasses.replace(
        EXAMPLE,
        findings=(finding(summary=sentence),),
        conversations=Conversations((flow(1)._replace(dissection=Dissection("tls", facts=facts)),)),
    )
    shareable = anonymous(result, KEY)
    (summary,) = (each.summary for each in shareable.findings)
    login, tls = (Pseudonyms(KEY).label(each) for each in ("login", "tls"))
    assert f", CN={login}.{tls},O=x" in summary and summary.endswith(f"is for {login}.{tls}.") and "US" not in summary
    (each,) = shareable.conversations
    assert isinstance(each.dissection.facts, NewFacts)
    told = ipaddress.ip_address(Pseudonyms(KEY).address("192.0.2.1")).reverse_pointer
    assert each.dissection.facts.peers == (told,)


def test_a_value_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(TypeError, match="which may hold a name"):
        Anonymizer(Pseudonyms(KEY), vocabulary("tpe-self-hosted")).anonymous((Path("berlin"),))


def test_names_that_differ_by_case_only_are_counted_together() -> None:
    facts = dataclasses.replace(NEW, counts={"Gw.example": 2, "gW.EXAMPLE": 3})
    changed = Anonymizer(Pseudonyms(KEY), frozenset()).anonymous(facts)
    assert list(changed.counts.values()) == [5]


# -- the command ------------------------------------------------------------------------------------------------


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    path = (
        Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 41000, OTHER, 8080, HTTP).save(tmp_path / "a.pcap")
    )
    for command, code in (("audit", cli.FOUND), ("flows", cli.CLEAN)):
        for format_ in ("text", "json"):
            assert cli.main([command, str(path), "--anonymize", str(key), "--format", format_]) == code
            out, err = capsys.readouterr()
            absent({STATION, TPE, OTHER, str(path), tmp_path.name}, out)
            assert "tcp" in out and err == ""


@pytest.mark.parametrize(("content", "words"), [(b"short", "a key of 5 bytes is too short"), (None, "no such file")])
def test_a_key_that_is_none_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    assert cli.main(["audit", str(tmp_path / "none.pcap"), "--anonymize", str(key)]) == cli.USAGE
    assert words in capsys.readouterr().err


def test_a_list_of_flows_is_anonymised(tmp_path: Path) -> None:
    found = list_flows(samples.files("tls-full-tls12-mutual"))
    shareable = anonymous(found, KEY)
    said = "".join(json_report.flow_pieces(shareable.captures, shareable.conversations))
    absent(originals(both("tls-full-tls12-mutual")[0]), said)
    jsonschema.validate(json.loads(said), {"$ref": "#/$defs/flows_report", "$defs": json_report.schema()["$defs"]})
