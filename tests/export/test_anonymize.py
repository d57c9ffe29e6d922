"""Anonymised audits: the same verdicts, and nothing that identifies the network."""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from analyzer import Audit, CaptureError, anonymous, audit, cli
from analyzer.conversations import Conversation, Conversations
from analyzer.expected import UsageError
from analyzer.export.anonymize import Anonymizer, vocabulary
from analyzer.export.pseudonyms import Pseudonyms
from analyzer.findings import Finding
from analyzer.messages import Facts, to_json
from analyzer.pipeline import list_flows
from analyzer.protocols import Dissection
from analyzer.reports import FORMATS
from analyzer.reports import json as json_report
from analyzer.reports import text as text_report
from analyzer.safetext import SafeText
from analyzer.verdicts import StationVerdict
from tests import injection, samples
from tests.reports.audits import EXAMPLE, finding, flow
from tests.reports.rendering import rendered
from tests.synthetic import HTTP, OTHER, STATION, TLS, TPE, Traffic

CORPUS = os.environ.get("TPE_PCAP_CORPUS")
KEY = bytes(range(32))
BOUNDS = r"(?<![\w.:-]){}(?![\w:-]|\.\w)"


def both(name: str) -> tuple[Audit, Audit]:
    """The audit of a recorded capture, and the same anonymised."""
    result = samples.audit_of(name)
    return result, anonymous(result, KEY)


# -- names and addresses -----------------------------------------------------------------------------------------

NAMES = {
    *(
        "server_name",
        "host_name",
        "host",
        "user",
        "subject",
        "issuer",
        "path",
        "target",
        "listings",
        "identities",
        "lrr_ids",
        "client_id",
        "gateways",
        "topics",
    ),
    *("answers", "queries", "truncated", "names", "host_key_fingerprint", "initiator_spi", "responder_spi", "spis"),
}
"""Keys of the JSON report whose texts are names or contain some."""

COMMON_NAMES = {"tpe", "ftp", "lrr", "/"}
"""Names in the captures that are also words of the protocols."""


def texts(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a JSON value, including keys of objects, with the nearest enclosing key."""
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
    """Addresses, hardware addresses and names in the JSON report of an audit."""
    found: set[str] = {capture.path for capture in result.captures}
    for key, text in texts(json.loads(json_report.render(result))):
        found |= addresses(text)
        if key in NAMES:
            found |= {text, *re.split(r"[,+]?[A-Z]+=", text)} if "=" in text else {text}
    return {name for name in found if len(name) > 1 and not name.isdigit()} - COMMON_NAMES - NAMES


def addresses(text: str) -> set[str]:
    """Addresses and hardware addresses of hosts in a text."""
    found = set(re.findall(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b", text)) - {"ff:ff:ff:ff:ff:ff"}
    for match in re.findall(r"[0-9]+(?:\.[0-9]+){3}|[0-9a-f]*:[0-9a-f:.]+", text):
        try:
            address = ipaddress.ip_address(match.rstrip(":."))
        except ValueError:
            continue
        special = address.is_multicast or address.is_loopback or address.is_unspecified
        if not special and str(address) != "255.255.255.255" and int(address) >> 24:
            found.add(str(address))
    return {address for address in found if not address.startswith(("33:33:", "01:00:5e:"))}


def assert_absent(values: set[str], text: str) -> None:
    folded = text.casefold()
    for value in sorted(values):
        if value.casefold() in folded:  # much faster than the regular expression
            assert not re.search(BOUNDS.format(re.escape(value.casefold())), folded), value


@pytest.mark.parametrize("name", samples.names())
def test_no_report_contains_an_original_name_or_address(name: str) -> None:
    result, anonymised = both(name)
    values = originals(result)
    assert values
    for report in FORMATS:
        try:
            text = rendered(report, anonymised)
        except pytest.skip.Exception:
            continue  # its extra is not installed
        assert_absent(values, text if isinstance(text, str) else text.decode("latin-1"))
    assert_absent(values, repr(anonymised))
    assert_absent(values, anonymised._repr_html_())
    for frame in (anonymised.flows_frame(), anonymised.findings_frame(), anonymised.rows_frame()):
        assert_absent(values, frame.to_csv())


@pytest.mark.skipif(CORPUS is None, reason="TPE_PCAP_CORPUS is not set")
def test_no_report_of_the_corpus_contains_an_original() -> None:
    audited = 0
    for path in sorted(Path(CORPUS or "").iterdir()):
        try:
            result = audit(path)
        except CaptureError:
            continue
        values = {name for name in originals(result) if not re.match(r"local(host)?(:\d+)?$|127\.", name)}
        assert_absent(values, json_report.render(anonymous(result, KEY)))
        audited += 1
    assert audited > 10


@pytest.mark.parametrize("name", samples.names())
def test_verdicts_are_unchanged(name: str) -> None:
    result, anonymised = both(name)
    assert anonymised.totals == result.totals and anonymised.fails() == result.fails()
    assert list(map(verdicts, anonymised.base_stations)) == list(map(verdicts, result.base_stations))
    assert list(map(evidence, anonymised.findings)) == list(map(evidence, result.findings))
    assert list(map(traffic, anonymised.flows)) == list(map(traffic, result.flows))
    assert anonymised.flow_rows == result.flow_rows and anonymised.flow_stations.keys() == result.flow_stations.keys()
    assert len(anonymised.names) == len(result.names) and len(anonymised.clients) == len(result.clients)


def verdicts(station: StationVerdict) -> Any:
    return station.mode, [(row.row, row.status, row.certainty, row.flows) for row in station.rows]


def evidence(finding: Finding) -> Any:
    """Everything about a finding that identifies nobody."""
    names = ("check", "severity", "kind", "rows", "flow", "count", "frames", "time", "remedy")
    return [getattr(finding, name) for name in names]


def traffic(flow: Conversation) -> Any:
    return flow.id, flow.transport, flow.protocol, flow.state, flow.packets, flow.first


@pytest.mark.parametrize("name", samples.names())
def test_sentences_lose_only_names_and_addresses(name: str) -> None:
    """A replaced word of a sentence is an address, or part of a name in the facts."""
    result, anonymised = both(name)
    values = {value.casefold() for value in originals(result)}
    labels = {label for value in values for label in re.split(r"[^\w-]", value)}
    for original, changed in zip(result.findings, anonymised.findings, strict=True):
        for before, after in zip(original.summary.split(), changed.summary.split(), strict=True):
            if before != after and not addresses(before):
                words = set(re.findall(r"[\w-]+", before.casefold())) - set(re.findall(r"[\w-]+", after.casefold()))
                assert words <= labels, (original.summary, changed.summary)


FIELDS = (
    *("eth.src", "eth.dst", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst", "dns.qry.name", "dns.a", "dns.cname"),
    *("tls.handshake.extensions_server_name", "dhcp.option.hostname", "dhcp.ip.your", "ftp.request.arg", "http.host"),
    *("x509sat.uTF8String", "x509ce.dNSName"),
)
READ_BY_TSHARK = ("plain-full-passive", "tls-full-tls12-mutual", "tls-dns-tunnel", "plain-ipv6", "basics-compliant")


@pytest.mark.tshark
@pytest.mark.parametrize("name", READ_BY_TSHARK)
def test_no_report_contains_a_name_that_tshark_finds(name: str) -> None:
    (path,) = samples.files(name)
    command = ["tshark", "-r", str(path), "-T", "fields", "-E", "aggregator=\t", *(f"-e{field}" for field in FIELDS)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    values = {value for value in re.split(r"[\t\n]", output) if len(value) > 1 and value not in COMMON_NAMES}
    hosts = {value for value in values if not re.fullmatch(r"[0-9a-f:.]+", value) or addresses(value)}
    assert len(hosts) > 4
    words = {host for host in hosts if host.isupper() or host.isdigit()}
    assert_absent(hosts - words, json_report.render(both(name)[1]))


# -- reports --------------------------------------------------------------------------------------------------------


def test_json_conforms_to_its_schema_and_has_community_ids() -> None:
    result, anonymised = both("plain-full-passive")
    before, after = json.loads(json_report.render(result)), json.loads(json_report.render(anonymised))
    jsonschema.Draft202012Validator(json_report.schema()).validate(after)
    changed = 0
    for old, new in zip(before["flows"], after["flows"], strict=True):
        assert old["community_id"] is not None and new["community_id"] is not None
        same_ends = all(old[end] == new[end] for end in ("originator", "responder"))  # special addresses are kept
        assert (old["community_id"] == new["community_id"]) == same_ends
        changed += old["community_id"] != new["community_id"]
    assert changed > 5


def test_pseudonym_of_a_name_is_the_same_everywhere() -> None:
    _, anonymised = both("tls-full-tls12-mutual")
    names = {name for known in anonymised.names.values() for name in known}
    facts = json.dumps([to_json(flow.dissection.facts) for flow in anonymised.flows if flow.dissection.facts])
    report = text_report.render(anonymised)
    assert names and all(name in facts for name in names) and any(f"({name})" in report for name in names)


def test_report_depends_on_capture_and_key_only() -> None:
    path = samples.capture("tls-full-tls12-mutual")
    first, second = (json_report.render(anonymous(audit(path), KEY)) for _ in range(2))
    assert first == second != json_report.render(anonymous(audit(path), KEY[::-1]))


def test_short_key_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match="32 random ones"):
        anonymous(EXAMPLE, KEY[:31])


def test_injected_text_is_anonymised(tmp_path: Path) -> None:
    result = audit(injection.save(tmp_path / "a.pcapng"))
    text = json_report.render(anonymous(result, KEY))
    for word in ("owned", "onerror", "calc", "evil"):
        assert word not in text, word


# -- new facts and sentences ------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class NewFacts(Facts):
    """Facts of a future protocol, whose author did not think of anonymisation."""

    gateway: str
    peers: tuple[str, ...]
    counts: dict[str, int]
    version: SafeText
    token: bytes = b""
    _private: str = "bs-17.berlin.example"


NEW = NewFacts("station", ("server-1", "10.1.2.3"), {"bs-17.berlin.example": 2}, "TLS 1.2 by bs-17", b"berlin")


def audit_with_new_facts() -> Audit:
    """An audit with such facts, and with sentences and filters that repeat them in various forms."""
    sentences = (
        "The station server-1 asks bs-17.berlin.example for 10.1.2.3:3001, [2001:db8::17]:22 and 70:76:ff:00:aa:10.",
        "Row i38 expects TLS on tcp/3001, but berlin.example/secret-path?x=1 (CN=bs-17,O=Berlin Werke) is there.",
        "227 Entering Passive Mode (10,1,2,3,195,80) by ip-10-1-2-3 and 10-1-2-3, identifier 7076ff00aa10.",
    )
    filters = 'ip.addr == 10.1.2.3 && tcp.port == 3001 && frame == 70:76:ff:00:aa:10 && ip == "bs-17.berlin.example"'
    return dataclasses.replace(
        EXAMPLE,
        findings=tuple(finding(summary=sentence, filter=filters) for sentence in sentences),
        conversations=Conversations((flow(1)._replace(dissection=Dissection("tls", facts=NEW)),)),
    )


def test_names_of_new_facts_are_replaced_in_facts_and_sentences() -> None:
    anonymised = anonymous(audit_with_new_facts(), KEY)
    names = {"server-1", "bs-17", "10.1.2.3", "2001:db8::17", "70:76:ff:00:aa:10", "secret-path", "7076ff00aa10"}
    for text in (json_report.render(anonymised), text_report.render(anonymised), repr(anonymised)):
        assert_absent(names, text)
        assert not re.search(r"berlin|werke|10,1,2,3|10-1-2-3|" + b"berlin".hex(), text, re.IGNORECASE)
    facts = json.loads(json_report.render(anonymised))["flows"][0]["facts"]
    assert re.fullmatch("x[a-z2-7]{9}", facts["gateway"])
    assert facts["version"].startswith("TLS 1.2 by x") and list(facts["counts"].values()) == [2]


def test_words_of_the_vocabulary_are_kept() -> None:
    anonymised = anonymous(audit_with_new_facts(), KEY)
    first, second, _ = (finding.summary for finding in anonymised.findings)
    assert re.fullmatch(
        r"The station x\w+ asks x\w+\.x\w+\.x\w+ for 10\.[\d.]+:3001, \[[0-9a-f:]+\]:22 and 70:76:ff:[0-9a-f:]+\.",
        first,
    )
    assert second.startswith("Row i38 expects TLS on tcp/3001, but x") and second.endswith(") is there.")
    (display_filter,) = {finding.filter for finding in anonymised.findings}
    assert display_filter is not None
    assert re.fullmatch(
        r'ip\.addr == 10\.[\d.]+ && tcp\.port == 3001 && frame == 70:76:ff:[0-9a-f:]+ && ip == "x\w+\.x\w+\.x\w+"',
        display_filter,
    )


def test_name_of_several_vocabulary_words_is_replaced_in_sentences() -> None:
    facts = dataclasses.replace(NEW, gateway="CN=login.tls,O=Gateway Service,C=US", peers=("1.2.0.192.in-addr.arpa",))
    sentence = "The certificate of O=Gateway Service, CN=login.tls,O=Gateway Service,C=US, is for login.tls."
    result = dataclasses.replace(
        EXAMPLE,
        findings=(finding(summary=sentence),),
        conversations=Conversations((flow(1)._replace(dissection=Dissection("tls", facts=facts)),)),
    )
    anonymised = anonymous(result, KEY)
    summary = anonymised.findings[0].summary
    login, tls = map(Pseudonyms(KEY).label, ("login", "tls"))
    assert f", CN={login}.{tls},O=x" in summary and summary.endswith(f"is for {login}.{tls}.") and "US" not in summary
    changed = anonymised.conversations[0].dissection.facts
    assert isinstance(changed, NewFacts)
    assert changed.peers == (ipaddress.ip_address(Pseudonyms(KEY).address("192.0.2.1")).reverse_pointer,)


def test_value_of_an_unknown_type_is_an_error() -> None:
    with pytest.raises(TypeError, match="which may hold a name"):
        Anonymizer(Pseudonyms(KEY), vocabulary("tpe-self-hosted")).anonymous((Path("berlin"),))


def test_counts_of_names_that_differ_only_by_case_are_added() -> None:
    facts = dataclasses.replace(NEW, counts={"Gw.example": 2, "gW.EXAMPLE": 3})
    changed = Anonymizer(Pseudonyms(KEY), frozenset()).anonymous(facts)
    assert list(changed.counts.values()) == [5]


# -- the command ------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key"
    key.write_bytes(KEY)
    traffic = Traffic().tcp(STATION, 40000, TPE, 3001, TLS).tcp(STATION, 41000, OTHER, 8080, HTTP)
    path = traffic.save(tmp_path / "a.pcap")
    for command, code in (("audit", cli.FOUND), ("flows", cli.CLEAN)):
        for format_ in ("text", "json"):
            assert cli.main([command, str(path), "--anonymize", str(key), "--format", format_]) == code
            out, err = capsys.readouterr()
            assert_absent({STATION, TPE, OTHER, str(path), tmp_path.name}, out)
            assert "tcp" in out and err == ""


@pytest.mark.parametrize(("content", "words"), [(b"short", "a key of 5 bytes is too short"), (None, "no such file")])
def test_command_checks_the_key_before_it_reads_captures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, words: str
) -> None:
    key = tmp_path / "key"
    if content is not None:
        key.write_bytes(content)
    assert cli.main(["audit", str(tmp_path / "none.pcap"), "--anonymize", str(key)]) == cli.USAGE
    assert words in capsys.readouterr().err


def test_list_of_flows_is_anonymised() -> None:
    listing = anonymous(list_flows(samples.files("tls-full-tls12-mutual")), KEY)
    text = "".join(json_report.flow_pieces(listing.captures, listing.conversations))
    assert_absent(originals(both("tls-full-tls12-mutual")[0]), text)
    jsonschema.validate(json.loads(text), {"$ref": "#/$defs/flows_report", "$defs": json_report.schema()["$defs"]})
