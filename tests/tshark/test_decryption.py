"""What keys decrypt, and keys that decrypt nothing. Without tshark most of these tests are skipped."""

from __future__ import annotations

import contextlib
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import CaptureError, audit, cli
from analyzer.expected import UsageError
from analyzer.findings import Severity
from analyzer.heads import Direction, Frame
from analyzer.messages import Item
from analyzer.protocols import Dissection, ike, tls
from analyzer.protocols.ike import IkeFacts
from analyzer.protocols.tls import TlsFacts
from analyzer.reports import FORMATS
from analyzer.result import Audit
from analyzer.tshark.decryption import add_ike
from analyzer.wire import Reader, StopParsing
from tests import samples
from tests.protocols.ike_messages import SPI_I, SPI_R
from tests.synthetic import ESP, IKE_INIT, STATION, TPE, Traffic, findings_of, statuses
from tests.tshark.keyed_traffic import (
    TABLE,
    Payloads,
    auth,
    auth_in_fragments,
    certificate,
    chain,
    handshake,
    notification,
    tls_traffic,
    tunnel,
)

GCM128, GCM256, GCM_SHORT = (1, 20, 128), (1, 20, 256), (1, 18, 128)
CBC, SHA256, NO_ESN, ESN, ECP256 = (1, 12, 128), (3, 12, None), (5, 0, None), (5, 1, None), (4, 19, None)
REQUEST_SPI, RESPONSE_SPI = 0xFBF1CCCF, 0x236AB764
"""SPIs under which the initiator and the responder receive ESP; the ESP packets of the tests carry the first."""
MOBIKE = notification(16396)

GOOD_REQUEST: Payloads = (tunnel(REQUEST_SPI, (GCM128, NO_ESN), (GCM256, ESN, NO_ESN)), MOBIKE)
GOOD_RESPONSE: Payloads = (tunnel(RESPONSE_SPI, (GCM128, NO_ESN)), MOBIKE)


def tunnelled(
    folder: Path,
    request: Payloads = GOOD_REQUEST,
    response: Payloads = GOOD_RESPONSE,
    keys: str | None = TABLE,
    fragments: int = 0,
    later: tuple[tuple[str, bytes], ...] = (),
    raw: bool = False,
) -> Audit:
    """Audit a base station that brings up a tunnel, with keys.

    ``later``: more datagrams on UDP/4500. ``raw``: ESP is IP protocol 50 instead of inside UDP.
    """
    requests = auth_in_fragments(request, fragments) if fragments else [auth(request)]
    traffic = Traffic().exchange(STATION, 500, TPE, 500, IKE_INIT)
    traffic.udp(
        STATION,
        4500,
        TPE,
        4500,
        *((">", request) for request in requests),
        ("<", auth(response, response=True)),
        *later,
    )
    if raw:
        traffic.packet(STATION, TPE, 50, ESP).packet(TPE, STATION, 50, ESP)
    else:
        traffic.udp(STATION, 4500, TPE, 4500, *((direction, ESP) for direction in "><><"))
    path = folder / "ikev2_decryption_table"
    path.write_text(keys or "")
    return traffic.audit(folder, ike_keys=path if keys is not None else None)


def ike_facts(result: Audit) -> IkeFacts:
    (facts,) = (flow.dissection.facts for flow in result.flows if flow.responder.port == 4500)
    assert isinstance(facts, IkeFacts)
    return facts


def tls_facts(result: Audit) -> TlsFacts:
    (facts,) = (flow.dissection.facts for flow in result.flows if flow.protocol == "tls")
    assert isinstance(facts, TlsFacts)
    return facts


# -- IKE --------------------------------------------------------------------------------------------------------


@pytest.mark.tshark
def test_compliant_ike_auth_is_decrypted_without_findings(tmp_path: Path) -> None:
    result = tunnelled(tmp_path)
    facts = ike_facts(result)
    assert facts.esp_offered == ("aes128gcm16", "aes256gcm16-esn", "aes256gcm16")
    assert (facts.esp_chosen, facts.mobike, facts.decrypted) == ("aes128gcm16", True, "tshark")
    assert {finding.check for finding in result.findings if finding.rows in (("i1",), ("i2",))} <= {"TPE213"}
    (note,) = findings_of(result, "TPE014")
    assert "decrypted 2 messages of 1 flow" in note.summary and note.severity.name == "INFO"
    assert statuses(result)["i2"] == "present"


@pytest.mark.tshark
def test_encrypted_fragments_are_reassembled(tmp_path: Path) -> None:
    whole, fragmented = tunnelled(tmp_path), tunnelled(tmp_path, fragments=40)
    assert ike_facts(fragmented).esp_offered == ike_facts(whole).esp_offered
    assert not [finding for finding in fragmented.findings if finding.rows == ("i2",)]


@pytest.mark.tshark
def test_disallowed_esp_proposal_is_high_and_makes_its_row_malformed(tmp_path: Path) -> None:
    result = tunnelled(
        tmp_path,
        (tunnel(REQUEST_SPI, (CBC, SHA256, NO_ESN)), MOBIKE),
        (tunnel(RESPONSE_SPI, (CBC, SHA256, NO_ESN)), MOBIKE),
    )
    (chosen,) = findings_of(result, "TPE228")
    assert chosen.severity.name == "HIGH" and chosen.rows == ("i2",) and chosen.base_station == STATION
    assert "aes128-sha256, which is not one of aes128gcm128, aes256gcm128" in chosen.summary
    assert [frame.number for frame in chosen.frames] == [4] and chosen.filter == "frame.number == 4"
    (offered,) = findings_of(result, "TPE229")
    assert offered.severity.name == "HIGH" and "only ESP proposals that are not allowed" in offered.summary
    assert statuses(result)["i2"] == "malformed"


@pytest.mark.tshark
def test_disallowed_esp_proposal_names_the_flow_that_negotiates_it(tmp_path: Path) -> None:
    proposals = (CBC, SHA256, NO_ESN)
    result = tunnelled(tmp_path, (tunnel(REQUEST_SPI, proposals),), (tunnel(RESPONSE_SPI, proposals),), raw=True)
    (chosen,) = findings_of(result, "TPE228")
    (flow,) = (flow for flow in result.flows if flow.id == chosen.flow)
    assert flow.responder.port == 4500 and flow.first_frame <= chosen.frames[0] <= flow.last_frame
    assert (chosen.rows, chosen.count) == (("i2",), 2)
    assert statuses(result)["i2"] == "malformed"


@pytest.mark.tshark
def test_disallowed_esp_offer_beside_allowed_ones_is_low(tmp_path: Path) -> None:
    result = tunnelled(tmp_path, (tunnel(REQUEST_SPI, (GCM128, NO_ESN), (GCM_SHORT, NO_ESN)), MOBIKE))
    (offered,) = findings_of(result, "TPE229")
    assert offered.severity.name == "LOW" and "aes128gcm8 beside the allowed" in offered.summary
    assert not findings_of(result, "TPE228") and statuses(result)["i2"] == "present"


@pytest.mark.tshark
def test_rekeying_is_checked_and_may_include_a_key_exchange(tmp_path: Path) -> None:
    def rekeyed(*transforms: tuple[int, int, int | None]) -> Audit:
        request = auth((tunnel(REQUEST_SPI + 1, transforms),), exchange=36, message_id=2)
        response = auth((tunnel(RESPONSE_SPI + 1, transforms),), response=True, exchange=36, message_id=2)
        return tunnelled(tmp_path, later=((">", request), ("<", response)))

    assert not findings_of(rekeyed(GCM256, ECP256, NO_ESN), "TPE228")
    (chosen,) = findings_of(rekeyed(CBC, SHA256, NO_ESN), "TPE228")
    assert [frame.number for frame in chosen.frames] == [6]


@pytest.mark.tshark
@pytest.mark.parametrize(
    ("ike_request", "response", "beginning"),
    [
        (GOOD_REQUEST, GOOD_RESPONSE[:1], "The responder does not support"),
        (GOOD_REQUEST[:1], GOOD_RESPONSE[:1], "Neither peer supports"),
    ],
)
def test_missing_mobike_is_low(tmp_path: Path, ike_request: Payloads, response: Payloads, beginning: str) -> None:
    result = tunnelled(tmp_path, ike_request, response)
    (finding,) = findings_of(result, "TPE230")
    assert finding.summary.startswith(beginning) and finding.severity.name == "LOW" and finding.rows == ("i1",)
    assert ike_facts(result).mobike is False and statuses(result)["i1"] == "present"


@pytest.mark.tshark
def test_error_notification_inside_ike_auth_is_reported(tmp_path: Path) -> None:
    result = tunnelled(tmp_path, response=(notification(14),))
    (refused,) = findings_of(result, "TPE205")
    assert "NO_PROPOSAL_CHOSEN inside IKE_AUTH 1 of the initiator; aes128gcm16" in refused.summary
    (failed,) = findings_of(tunnelled(tmp_path, response=(notification(24),)), "TPE207")
    assert "AUTHENTICATION_FAILED inside IKE_AUTH" in failed.summary
    (other,) = findings_of(tunnelled(tmp_path, response=(notification(38),)), "TPE210")
    assert "TS_UNACCEPTABLE inside IKE_AUTH" in other.summary


def test_without_keys_a_finding_lists_what_is_hidden(tmp_path: Path) -> None:
    result = tunnelled(tmp_path, keys=None)
    (hidden,) = findings_of(result, "TPE220")
    assert "ESP proposal" in hidden.summary and "MOBIKE" in hidden.summary and "without keys" in hidden.summary
    assert hidden.severity.name == "INFO" and hidden.rows == ("i1",)
    assert ike_facts(result).decrypted is None and not findings_of(result, "TPE014")


@pytest.mark.tshark
@pytest.mark.parametrize(
    "keys",
    [
        TABLE.replace(TABLE[:16], "00" * 8),  # of another SA
        TABLE.replace("03" * 32, "05" * 32).replace("04" * 32, "05" * 32),  # the checksum does not verify
        TABLE.replace("01" * 16, "07" * 16).replace("02" * 16, "07" * 16),  # only the checksum does
    ],
)
def test_wrong_keys_cause_no_finding_about_the_peers(tmp_path: Path, keys: str) -> None:
    result = tunnelled(tmp_path, keys=keys)
    assert findings_of(result, "TPE220") and not findings_of(result, "TPE228") and not findings_of(result, "TPE122")
    assert ike_facts(result).esp_offered == () and statuses(result)["i1"] == "present"
    (note,) = findings_of(result, "TPE014")
    assert note.severity.name == "LOW" and "open nothing" in note.summary


# -- TLS --------------------------------------------------------------------------------------------------------


@pytest.mark.tshark
@pytest.mark.parametrize("extra", [0, 3000])
def test_expired_certificate_of_tls_13_is_found_with_keys(tmp_path: Path, extra: int) -> None:
    flights, keylog = handshake(tmp_path, certificate(tmp_path, ends=-1, extra=extra))
    traffic = tls_traffic(flights)
    (hidden,) = findings_of(traffic.audit(tmp_path), "TPE277")
    assert "cannot be seen without keys" in hidden.summary

    result = traffic.audit(tmp_path, tls_keylog=keylog)
    (expired,) = findings_of(result, "TPE269")
    assert expired.severity.name == "HIGH" and expired.rows == ("i38",) and "went on all the same" in expired.summary
    assert not findings_of(result, "TPE277") and statuses(result)["i38"] == "malformed"
    facts = tls_facts(result)
    assert facts.decrypted == "tshark" and facts.certificates[0].subject == "CN=tpe"
    assert facts.certificates_hidden is None


@pytest.mark.tshark
def test_rejected_expired_certificate_is_medium(tmp_path: Path) -> None:
    flights, keylog = handshake(tmp_path, certificate(tmp_path, ends=-1), verify=True)
    result = tls_traffic(flights).audit(tmp_path, tls_keylog=keylog)
    (expired,) = findings_of(result, "TPE269")
    assert expired.severity.name == "MEDIUM" and "the client refused the handshake" in expired.summary
    (refused,) = findings_of(result, "TPE264")
    assert refused.summary.startswith("The client refuses the handshake with the alert")


@pytest.mark.tshark
def test_valid_certificate_of_tls_13_causes_no_finding(tmp_path: Path) -> None:
    flights, keylog = handshake(tmp_path, certificate(tmp_path))
    result = tls_traffic(flights, service=3002).audit(tmp_path, tls_keylog=keylog)
    assert not [finding for finding in result.findings if finding.rows == ("i39",)]
    facts = tls_facts(result)
    assert facts.client_certificate is False and facts.client_certificate_requested is False


@pytest.mark.tshark
def test_equal_looking_flows_are_decrypted_separately(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        folder.mkdir()
    good_flights, good_keys = handshake(good, certificate(good))
    bad_flights, bad_keys = handshake(bad, certificate(bad, ends=-1))
    traffic = tls_traffic(good_flights)
    traffic.packets += [(time + 30, frame) for time, frame in tls_traffic(bad_flights, port=40002).packets]
    keylog = tmp_path / "both.log"
    keylog.write_text(good_keys.read_text() + bad_keys.read_text())
    result = traffic.audit(tmp_path, tls_keylog=keylog)
    (expired,) = findings_of(result, "TPE269")
    assert (expired.flow, expired.count) == (2, 1)


@pytest.mark.tshark
def test_tls_12_needs_no_keys(tmp_path: Path) -> None:
    flights, keylog = handshake(tmp_path, certificate(tmp_path, ends=-1), newest=ssl.TLSVersion.TLSv1_2)
    traffic = tls_traffic(flights)
    with_keys, without = traffic.audit(tmp_path, tls_keylog=keylog), traffic.audit(tmp_path)
    assert [finding for finding in with_keys.findings if finding.check != "TPE014"] == list(without.findings)
    (note,) = findings_of(with_keys, "TPE014")
    assert "were not needed" in note.summary and note.severity is Severity.INFO


@pytest.mark.tshark
def test_embedded_keys_are_used_only_on_request() -> None:
    path = samples.capture("basics-keys-embedded")
    assert findings_of(audit(path), "TPE277") and not findings_of(audit(path), "TPE014")
    result = audit(path, embedded_keys=True)
    assert not findings_of(result, "TPE277")
    assert "the capture itself" in findings_of(result, "TPE014")[0].summary


# -- untrusted plaintext ----------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.integers(0, 255))
def test_any_plaintext_is_parsed_or_stops(plaintext: bytes, kind: int) -> None:
    with contextlib.suppress(StopParsing):
        list(ike.read_decrypted(plaintext, kind))
    with contextlib.suppress(StopParsing):
        list(tls.read_decrypted(Reader(plaintext, 0, len(plaintext)), kind))


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_plaintext_with_a_wrong_length_counts_as_wrong_key(cut: int) -> None:
    payloads = chain(GOOD_REQUEST)
    header = Item(ike.IkeHeader(SPI_I, SPI_R, 46, 2, 0, 35, 8, 1, 200, True), Direction.ORIGINATOR, Frame(0, 1), 0, 4)
    encrypted = header._replace(message=ike.Encrypted(33, 160))
    before = Dissection(ike.NAME, (header, encrypted))
    decrypted, count = add_ike(before, {Frame(0, 1): payloads})
    assert count == 1 and len(decrypted.items) > 2
    decrypted, count = add_ike(before, {Frame(0, 1): payloads[:-cut]})
    assert decrypted.items == before.items


# -- key files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "content", "reason"),
    [
        ("ike_keys", b"", "holds no keys"),
        ("ike_keys", b"# a comment\n", "holds no keys"),
        ("ike_keys", TABLE.encode() + b"secret,of,mine\n", "line 2 is no line of Wireshark's ikev2_decryption_table"),
        ("ike_keys", b"\x00\xff\xfe\n", "line 1 is no line"),
        ("tls_keylog", b"CLIENT_RANDOM 00 11\n", "line 1 is no line of an SSLKEYLOGFILE"),
        ("tls_keylog", TABLE.encode(), "line 1 is no line of an SSLKEYLOGFILE"),
    ],
)
def test_invalid_key_file_is_an_error_that_quotes_no_key(
    tmp_path: Path, option: str, content: bytes, reason: str
) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        audit(samples.capture("tls-compliant"), **{option: path})
    message = str(raised.value)
    assert message.startswith(f"{path}: {reason}") and "\n" not in message
    assert "mine" not in message and "0101" not in message


@pytest.mark.tshark
def test_no_report_contains_a_key(tmp_path: Path) -> None:
    result = tunnelled(tmp_path)
    for format_ in FORMATS:
        report = format_.render(result)
        report = report if isinstance(report, str) else report.decode("latin-1")
        for secret in TABLE.strip().replace('"', "").split(",")[2:4] + TABLE.split(",")[5:7]:
            assert secret not in report


@pytest.mark.tshark
def test_standard_input_cannot_be_decrypted(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(TABLE)
    command = [sys.executable, "-m", "analyzer", "audit", "-", "--ike-keys", str(tmp_path / "keys")]
    capture = samples.capture("ipsec-full-raw-esp").read_bytes()
    done = subprocess.run(command, input=capture, capture_output=True, check=False, cwd=samples.ROOT)
    assert done.returncode == 2
    assert done.stderr.decode() == "tpe-pcap: -: tshark needs a file that can be read more than once\n"


@pytest.mark.tshark
def test_command_reads_keys(capsys: pytest.CaptureFixture[str]) -> None:
    path = samples.capture("ipsec-esp-aes192gcm")
    assert cli.main(["audit", str(path)]) == 0
    assert cli.main(["audit", str(path), "--ike-keys", str(path.with_suffix(".ikev2_decryption_table"))]) == 1
    assert "TPE228" in capsys.readouterr().out


def test_keys_without_anything_to_decrypt_need_no_tshark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "keys").write_text(TABLE)
    result = audit(samples.capture("plain-link-only"), ike_keys=tmp_path / "keys")
    assert "open nothing" in findings_of(result, "TPE014")[0].summary


@pytest.mark.parametrize(
    ("line", "beginning"),
    [
        ('"IPv4","10.0.0.1","10.0.0.2","0x1232bd16","AES-GCM","0x00","NULL","0x"', "The ESP keys"),
        ("00112233445566aa,00112233", "The IKEv1 keys"),
    ],
)
def test_unsupported_kinds_of_keys_are_reported(tmp_path: Path, line: str, beginning: str) -> None:
    (tmp_path / "keys").write_text(f"{line}\n")
    (note,) = findings_of(audit(samples.capture("ipsec-full-raw-esp"), ike_keys=tmp_path / "keys"), "TPE014")
    assert note.summary.startswith(beginning) and "are not used" in note.summary
    assert note.severity.name == "LOW"


def test_missing_tshark_is_a_capture_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CaptureError, match="tshark is not installed: it comes with Wireshark"):
        tunnelled(tmp_path)


@pytest.mark.tshark
def test_recorded_keys_decrypt_recorded_captures() -> None:
    for name in ("ipsec-esp-null", "ipsec-full-raw-esp", "ipsec-natt-lan-side"):
        result = audit(samples.capture(name), ike_keys=samples.keys(name, "ikev2_decryption_table"))
        assert ike_facts(result).decrypted == "tshark"
        chosen = "null-sha256" if name == "ipsec-esp-null" else "aes128gcm16"
        assert ike_facts(result).esp_chosen == chosen
        assert bool(findings_of(result, "TPE228")) == (name == "ipsec-esp-null")


@pytest.mark.tshark
def test_findings_that_need_the_recorded_keys(tmp_path: Path) -> None:
    path = samples.capture("ipsec-esp-aes192gcm")
    result = audit(path, ike_keys=path.with_suffix(".ikev2_decryption_table"))
    (chosen,) = findings_of(result, "TPE228")
    assert chosen.severity.name == "HIGH" and "aes192gcm16" in chosen.summary
    assert statuses(result, "10.20.30.10")["i2"] == "malformed"
    assert findings_of(audit(path), "TPE220") and not findings_of(audit(path), "TPE228")

    path = samples.capture("basics-tls-13-expired-cert")
    result = audit(path, tls_keylog=path.with_suffix(".keylog"))
    (expired,) = findings_of(result, "TPE269")
    assert expired.rows == ("i42",) and statuses(result, "10.20.30.10")["i42"] == "malformed"
    assert findings_of(audit(path), "TPE277") and not findings_of(audit(path), "TPE269")
