"""What keys open, and what becomes of keys that open nothing. tshark decrypts; without it these tests are skipped."""

from __future__ import annotations

import contextlib
import shutil
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
from analyzer.result import Audit
from analyzer.tshark.decryption import open_ike
from analyzer.wire import Reader, StopParsing
from tests.leak_canaries import (
    TABLE,
    Payloads,
    auth,
    auth_in_fragments,
    certificate,
    chain,
    handshake,
    notification,
    tls_scene,
    tunnel,
)
from tests.protocols.test_ike import SPI_I, SPI_R
from tests.synthetic import ESP, IKE_INIT, STATION, TPE, Scene, found, statuses

CAPTURES = Path(__file__).parents[2] / "captures"
needs_tshark = pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")

GCM128, GCM256, GCM_SHORT = (1, 20, 128), (1, 20, 256), (1, 18, 128)
CBC, SHA256, NO_ESN, ESN, ECP256 = (1, 12, 128), (3, 12, None), (5, 0, None), (5, 1, None), (4, 19, None)
ASKS, TELLS = 0xFBF1CCCF, 0x236AB764
"""SPIs under which the initiator and the responder receive; the first is that of the ESP packets."""
MOBIKE = notification(16396)

GOOD_REQUEST: Payloads = (tunnel(ASKS, (GCM128, NO_ESN), (GCM256, ESN, NO_ESN)), MOBIKE)
GOOD_RESPONSE: Payloads = (tunnel(TELLS, (GCM128, NO_ESN)), MOBIKE)


def tunnelled(
    folder: Path,
    request: Payloads = GOOD_REQUEST,
    response: Payloads = GOOD_RESPONSE,
    keys: str | None = TABLE,
    fragments: int = 0,
    later: tuple[tuple[str, bytes], ...] = (),
) -> Audit:
    """A base station that brings up a tunnel, audited with keys."""
    asked = auth_in_fragments(request, fragments) if fragments else [auth(request)]
    scene = Scene().ask(STATION, 500, TPE, 500, IKE_INIT)
    scene.udp(STATION, 4500, TPE, 4500, *((">", each) for each in asked), ("<", auth(response, response=True)), *later)
    scene.udp(STATION, 4500, TPE, 4500, *((way, ESP) for way in "><><"))
    path = folder / "ikev2_decryption_table"
    path.write_text(keys or "")
    return scene.audited(folder, ike_keys=path if keys is not None else None)


def ike_facts(result: Audit) -> IkeFacts:
    (found,) = (each.dissection.facts for each in result.flows if each.responder.port == 4500)
    assert isinstance(found, IkeFacts)
    return found


def tls_facts(result: Audit) -> TlsFacts:
    (found,) = (each.dissection.facts for each in result.flows if each.protocol == "tls")
    assert isinstance(found, TlsFacts)
    return found


# -- IKE --------------------------------------------------------------------------------------------------------


@needs_tshark
def test_a_good_tunnel_is_opened_and_nothing_is_wrong_with_it(tmp_path: Path) -> None:
    result = tunnelled(tmp_path)
    facts = ike_facts(result)
    assert facts.esp_offered == ("aes128gcm16", "aes256gcm16-esn", "aes256gcm16")
    assert (facts.esp_chosen, facts.mobike, facts.decrypted) == ("aes128gcm16", True, "tshark")
    assert {each.check for each in result.findings if each.rows == ("i2",) or each.rows == ("i1",)} <= {"TPE213"}
    (used,) = found(result, "TPE014")
    assert "decrypted 2 messages of 1 flow" in used.summary and used.severity.name == "INFO"
    assert statuses(result)["i2"] == "present"


@needs_tshark
def test_fragments_are_put_together(tmp_path: Path) -> None:
    whole, pieces = tunnelled(tmp_path), tunnelled(tmp_path, fragments=40)
    assert ike_facts(pieces).esp_offered == ike_facts(whole).esp_offered
    assert len([each for each in pieces.findings if each.rows == ("i2",)]) == 0


@needs_tshark
def test_an_esp_proposal_outside_of_the_list_is_high_and_its_row_malformed(tmp_path: Path) -> None:
    result = tunnelled(
        tmp_path,
        (tunnel(ASKS, (CBC, SHA256, NO_ESN)), MOBIKE),
        (tunnel(TELLS, (CBC, SHA256, NO_ESN)), MOBIKE),
    )
    (chosen,) = found(result, "TPE228")
    assert chosen.severity.name == "HIGH" and chosen.rows == ("i2",) and chosen.base_station == STATION
    assert "aes128-sha256, which is not one of aes128gcm128, aes256gcm128" in chosen.summary
    assert [frame.number for frame in chosen.frames] == [4] and chosen.filter == "frame.number == 4"
    (offered,) = found(result, "TPE229")
    assert offered.severity.name == "HIGH" and "only ESP proposals that are not allowed" in offered.summary
    assert statuses(result)["i2"] == "malformed"


@needs_tshark
def test_a_weaker_tag_is_outside_of_the_list_and_an_offer_beside_good_ones_is_low(tmp_path: Path) -> None:
    result = tunnelled(tmp_path, (tunnel(ASKS, (GCM128, NO_ESN), (GCM_SHORT, NO_ESN)), MOBIKE))
    (offered,) = found(result, "TPE229")
    assert offered.severity.name == "LOW" and "aes128gcm8 beside the allowed" in offered.summary
    assert not found(result, "TPE228") and statuses(result)["i2"] == "present"


@needs_tshark
def test_rekeying_is_judged_too_and_a_key_exchange_of_its_own_does_no_harm(tmp_path: Path) -> None:
    def rekeyed(*transforms: tuple[int, int, int | None]) -> Audit:
        asked = auth((tunnel(ASKS + 1, transforms),), exchange=36, message_id=2)
        told = auth((tunnel(TELLS + 1, transforms),), response=True, exchange=36, message_id=2)
        return tunnelled(tmp_path, later=((">", asked), ("<", told)))

    assert not found(rekeyed(GCM256, ECP256, NO_ESN), "TPE228")
    (chosen,) = found(rekeyed(CBC, SHA256, NO_ESN), "TPE228")
    assert [frame.number for frame in chosen.frames] == [6]


@needs_tshark
@pytest.mark.parametrize(
    ("request_", "response", "who"),
    [
        (GOOD_REQUEST, GOOD_RESPONSE[:1], "The responder does not support"),
        (GOOD_REQUEST[:1], GOOD_RESPONSE[:1], "Neither peer supports"),
    ],
)
def test_a_peer_without_mobike_is_told(tmp_path: Path, request_: Payloads, response: Payloads, who: str) -> None:
    result = tunnelled(tmp_path, request_, response)
    (told,) = found(result, "TPE230")
    assert told.summary.startswith(who) and told.severity.name == "LOW" and told.rows == ("i1",)
    assert ike_facts(result).mobike is False and statuses(result)["i1"] == "present"


@needs_tshark
def test_a_refusal_inside_of_ike_auth_is_told(tmp_path: Path) -> None:
    result = tunnelled(tmp_path, response=(notification(14),))
    (refused,) = found(result, "TPE205")
    assert "NO_PROPOSAL_CHOSEN inside IKE_AUTH 1 of the initiator; aes128gcm16" in refused.summary
    (failed,) = found(tunnelled(tmp_path, response=(notification(24),)), "TPE207")
    assert "AUTHENTICATION_FAILED inside IKE_AUTH" in failed.summary
    (other,) = found(tunnelled(tmp_path, response=(notification(38),)), "TPE210")
    assert "TS_UNACCEPTABLE inside IKE_AUTH" in other.summary


def test_without_keys_it_is_said_what_cannot_be_seen(tmp_path: Path) -> None:
    result = tunnelled(tmp_path, keys=None)
    (hidden,) = found(result, "TPE220")
    assert "ESP proposal" in hidden.summary and "MOBIKE" in hidden.summary and "without keys" in hidden.summary
    assert hidden.severity.name == "INFO" and hidden.rows == ("i1",)
    assert ike_facts(result).decrypted is None and not found(result, "TPE014")


@needs_tshark
@pytest.mark.parametrize(
    "keys",
    [
        TABLE.replace(TABLE[:16], "00" * 8),  # of another SA
        TABLE.replace("03" * 32, "05" * 32).replace("04" * 32, "05" * 32),  # the checksum does not verify
        TABLE.replace("01" * 16, "07" * 16).replace("02" * 16, "07" * 16),  # only the checksum does
    ],
)
def test_keys_that_do_not_fit_blame_nobody(tmp_path: Path, keys: str) -> None:
    result = tunnelled(tmp_path, keys=keys)
    assert found(result, "TPE220") and not found(result, "TPE228") and not found(result, "TPE122")
    assert ike_facts(result).esp_offered == () and statuses(result)["i1"] == "present"
    (unused,) = found(result, "TPE014")
    assert unused.severity.name == "LOW" and "open nothing" in unused.summary


# -- TLS --------------------------------------------------------------------------------------------------------


@needs_tshark
@pytest.mark.parametrize("extra", [0, 3000])
def test_an_expired_certificate_that_tls_13_hides_is_found_with_keys(tmp_path: Path, extra: int) -> None:
    said, keylog = handshake(tmp_path, certificate(tmp_path, ends=-1, extra=extra))
    scene = tls_scene(said)
    (hidden,) = found(scene.audited(tmp_path), "TPE277")
    assert "cannot be seen without keys" in hidden.summary

    result = scene.audited(tmp_path, tls_keylog=keylog)
    (expired,) = found(result, "TPE269")
    assert expired.severity.name == "HIGH" and expired.rows == ("i38",) and "went on all the same" in expired.summary
    assert not found(result, "TPE277") and statuses(result)["i38"] == "malformed"
    facts = tls_facts(result)
    assert facts.decrypted == "tshark" and facts.certificates[0].subject == "CN=tpe"
    assert facts.certificates_hidden is None


@needs_tshark
def test_a_client_that_refuses_the_certificate_does_not_go_on(tmp_path: Path) -> None:
    said, keylog = handshake(tmp_path, certificate(tmp_path, ends=-1), verify=True)
    result = tls_scene(said).audited(tmp_path, tls_keylog=keylog)
    (expired,) = found(result, "TPE269")
    assert expired.severity.name == "MEDIUM" and "did not go on" in expired.summary
    (refused,) = found(result, "TPE264")
    assert refused.summary.startswith("The client refuses the handshake with the alert")


@needs_tshark
def test_a_good_certificate_under_tls_13_is_seen_to_be_good(tmp_path: Path) -> None:
    said, keylog = handshake(tmp_path, certificate(tmp_path))
    result = tls_scene(said, service=3002).audited(tmp_path, tls_keylog=keylog)
    assert not [each for each in result.findings if each.rows == ("i39",)]
    facts = tls_facts(result)
    assert facts.client_certificate is False and facts.client_certificate_requested is False


@needs_tshark
def test_flows_that_look_alike_are_opened_one_by_one(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    for folder in (good, bad):
        folder.mkdir()
    one, first = handshake(good, certificate(good))
    two, second = handshake(bad, certificate(bad, ends=-1))
    scene = tls_scene(one)
    scene.packets += [(time + 30, frame) for time, frame in tls_scene(two, port=40002).packets]
    keylog = tmp_path / "both.log"
    keylog.write_text(first.read_text() + second.read_text())
    result = scene.audited(tmp_path, tls_keylog=keylog)
    (expired,) = found(result, "TPE269")
    assert (expired.flow, expired.count) == (2, 1)


@needs_tshark
def test_tls_12_has_nothing_to_open(tmp_path: Path) -> None:
    said, keylog = handshake(tmp_path, certificate(tmp_path, ends=-1), newest=ssl.TLSVersion.TLSv1_2)
    scene = tls_scene(said)
    with_keys, without = scene.audited(tmp_path, tls_keylog=keylog), scene.audited(tmp_path)
    assert [each for each in with_keys.findings if each.check != "TPE014"] == list(without.findings)
    (unneeded,) = found(with_keys, "TPE014")
    assert "were not needed" in unneeded.summary and unneeded.severity is Severity.INFO


@needs_tshark
def test_keys_that_a_capture_carries_are_used_when_asked() -> None:
    path = CAPTURES / "basics-keys-embedded.pcapng"
    assert found(audit(path), "TPE277") and not found(audit(path), "TPE014")
    opened = audit(path, embedded_keys=True)
    assert not found(opened, "TPE277")
    assert "the capture itself" in found(opened, "TPE014")[0].summary


# -- plain text that nobody vouches for -------------------------------------------------------------------------


@given(st.binary(max_size=200), st.integers(0, 255))
def test_any_plain_text_is_read_or_stops(plain: bytes, kind: int) -> None:
    with contextlib.suppress(StopParsing):
        list(ike.opened(plain, kind))
    with contextlib.suppress(StopParsing):
        list(tls.opened(Reader(plain, 0, len(plain)), kind))


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_plain_text_that_does_not_end_where_it_says_is_taken_for_a_wrong_key(cut: int) -> None:
    whole = chain(GOOD_REQUEST)
    header = Item(ike.IkeHeader(SPI_I, SPI_R, 46, 2, 0, 35, 8, 1, 200, True), Direction.ORIGINATOR, Frame(0, 1), 0, 4)
    sealed = header._replace(message=ike.Encrypted(33, 160))
    before = Dissection(ike.NAME, (header, sealed))
    opened, count = open_ike(before, {Frame(0, 1): whole})
    assert count == 1 and len(opened.items) > 2
    opened, count = open_ike(before, {Frame(0, 1): whole[:-cut]})
    assert opened.items == before.items


# -- files of keys ----------------------------------------------------------------------------------------------


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
def test_a_file_that_holds_no_keys_is_refused_in_one_line_that_tells_none(
    tmp_path: Path, option: str, content: bytes, reason: str
) -> None:
    path = tmp_path / "keys"
    path.write_bytes(content)
    with pytest.raises(UsageError) as raised:
        audit(CAPTURES / "tls-compliant.pcap", **{option: path})
    told = str(raised.value)
    assert told.startswith(f"{path}: {reason}") and "\n" not in told
    assert "mine" not in told and "0101" not in told


def test_no_report_repeats_a_key(tmp_path: Path) -> None:
    if shutil.which("tshark") is None:
        pytest.skip("tshark is not installed")
    from analyzer.reports import FORMATS

    result = tunnelled(tmp_path)
    for module in FORMATS:
        report = module.render(result)
        report = report if isinstance(report, str) else report.decode("latin-1")
        for secret in TABLE.strip().replace('"', "").split(",")[2:4] + TABLE.split(",")[5:7]:
            assert secret not in report


@needs_tshark
def test_standard_input_cannot_be_decrypted(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(TABLE)
    command = [sys.executable, "-m", "analyzer", "audit", "-", "--ike-keys", str(tmp_path / "keys")]
    capture = (CAPTURES / "ipsec-full-raw-esp.pcap").read_bytes()
    done = subprocess.run(command, input=capture, capture_output=True, check=False, cwd=CAPTURES.parent)
    assert done.returncode == 2
    assert done.stderr.decode() == "tpe-pcap: -: tshark needs a file that can be read more than once\n"


@needs_tshark
def test_the_command_takes_keys(capsys: pytest.CaptureFixture[str]) -> None:
    path = CAPTURES / "ipsec-esp-aes192gcm.pcap"
    assert cli.main(["audit", str(path)]) == 0
    assert cli.main(["audit", str(path), "--ike-keys", str(path.with_suffix(".ikev2_decryption_table"))]) == 1
    assert "TPE228" in capsys.readouterr().out


def test_keys_for_what_is_not_there_need_no_tshark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "keys").write_text(TABLE)
    result = audit(CAPTURES / "plain-link-only.pcap", ike_keys=tmp_path / "keys")
    assert "open nothing" in found(result, "TPE014")[0].summary


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('"IPv4","10.0.0.1","10.0.0.2","0x1232bd16","AES-GCM","0x00","NULL","0x"', "The ESP keys"),
        ("00112233445566aa,00112233", "The IKEv1 keys"),
    ],
)
def test_keys_that_are_known_and_not_used_are_said_to(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "keys").write_text(f"{line}\n")
    (unused,) = found(audit(CAPTURES / "ipsec-full-raw-esp.pcap", ike_keys=tmp_path / "keys"), "TPE014")
    assert unused.summary.startswith(words) and "are not used" in unused.summary
    assert unused.severity.name == "LOW"


def test_without_tshark_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CaptureError, match="tshark is not installed: it comes with Wireshark"):
        tunnelled(tmp_path)


@needs_tshark
def test_the_recorded_keys_open_the_recorded_captures() -> None:
    for name in ("ipsec-esp-null", "ipsec-full-raw-esp", "ipsec-natt-lan-side"):
        result = audit(CAPTURES / f"{name}.pcap", ike_keys=CAPTURES / f"{name}.ikev2_decryption_table")
        assert ike_facts(result).decrypted == "tshark"
        chosen = "null-sha256" if name == "ipsec-esp-null" else "aes128gcm16"
        assert ike_facts(result).esp_chosen == chosen
        assert bool(found(result, "TPE228")) == (name == "ipsec-esp-null")


@needs_tshark
def test_what_only_the_recorded_keys_show(tmp_path: Path) -> None:
    path = CAPTURES / "ipsec-esp-aes192gcm.pcap"
    result = audit(path, ike_keys=path.with_suffix(".ikev2_decryption_table"))
    (chosen,) = found(result, "TPE228")
    assert chosen.severity.name == "HIGH" and "aes192gcm16" in chosen.summary
    assert statuses(result, "10.20.30.10")["i2"] == "malformed"
    assert found(audit(path), "TPE220") and not found(audit(path), "TPE228")

    path = CAPTURES / "basics-tls-13-expired-cert.pcap"
    result = audit(path, tls_keylog=path.with_suffix(".keylog"))
    (expired,) = found(result, "TPE269")
    assert expired.rows == ("i42",) and statuses(result, "10.20.30.10")["i42"] == "malformed"
    assert found(audit(path), "TPE277") and not found(audit(path), "TPE269")
