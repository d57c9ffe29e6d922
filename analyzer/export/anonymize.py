"""Anonymises audits: every address, hardware address and name is replaced by a pseudonym.

A finished audit is anonymised, so its verdicts stay the same, and reports are made from the result, so every format is
covered. Only what is known to be harmless is kept:

* Addresses and hardware addresses are recognised by their form, in any text.
* A text is a name, and replaced label by label, unless the type of its field is
  :data:`~analyzer.safetext.SafeText`.
* In :data:`~analyzer.safetext.SafeText` a word is kept if it is part of this program's vocabulary (its source, tables
  and rules) and not a name elsewhere in the audit.
* Numbers, times, ports, protocols and special-use addresses are kept.

Bytes that only checks use are left out.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import hashlib
import hmac
import inspect
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

from analyzer import checks, expected
from analyzer.conversations import Conversations
from analyzer.expected import ExpectedFlow, UsageError
from analyzer.export.pseudonyms import KEY_BYTES, Pseudonyms
from analyzer.findings import sections
from analyzer.heads import Frame, Head
from analyzer.messages import Facts
from analyzer.protocols import Dissection
from analyzer.protocols.tls.certificates import ATTRIBUTES
from analyzer.result import Audit, FlowListing
from analyzer.stations import Station

R = TypeVar("R", Audit, FlowListing)


def anonymous(result: R, key: bytes) -> R:
    """The audit, or list of flows, with pseudonyms.

    The same capture and key give the same pseudonyms, so several reports with one key can be compared. Raises
    ``UsageError`` for a key shorter than :data:`~analyzer.export.pseudonyms.KEY_BYTES`.
    """
    check_key(key)
    profile = result.profile if isinstance(result, Audit) else expected.DEFAULT_PROFILE
    first = Anonymizer(Pseudonyms(key), vocabulary(profile))
    first.anonymous(result)  # collects all names: a sentence may contain a name before the fact that declares it
    return cast(R, Anonymizer(first.pseudonyms, first.vocabulary, first).anonymous(result))


def check_key(key: bytes) -> None:
    """Raise ``UsageError`` for a key that is too short."""
    if len(key) < KEY_BYTES:
        raise UsageError(f"a key of {len(key)} bytes is too short: it takes {KEY_BYTES} random ones or more")


# -- vocabulary -----------------------------------------------------------------------------------------------------

LETTERS = re.compile(r"[^\W\d_]+")

PUBLIC = (
    "OpenSSH Dropbear libssh paramiko PuTTY AsyncSSH Debian Ubuntu Raspbian deb vsFTPd ProFTPD Pure-FTPd pyftpdlib "
    "nginx Apache lighttpd uvicorn gunicorn Werkzeug Python websockets curl Wget Mozilla BusyBox udhcp dhcpcd dhclient "
    "SimpleHTTP sntrup mlkem MSFT GPS GNSS PPS DCF GOES pcap pcapng"
)
"""Names of software, algorithms, clocks and formats, which identify nobody."""


@cache
def vocabulary(profile: str) -> frozenset[str]:
    """All words of this program's sentences and terms, in lower case."""
    package = Path(__file__).parents[1]
    modules = (path for path in package.rglob("*.py") if "reports" not in path.parts and path.name not in ("cli.py",))
    texts = [PUBLIC]
    texts += [text for path in modules for text in constants(path.read_text(encoding="utf-8"))]
    texts += [path.read_text(encoding="utf-8") for path in package.rglob("*.csv")]
    texts += [path.read_text(encoding="utf-8") for path in expected.rules_folder().rglob("*.toml")]
    texts += [repr(table) for table in expected.load(profile).values()]
    texts += [sections(check)["remedy"] for check in checks.CHECKS]
    return frozenset(word for text in texts for word in LETTERS.findall(text.casefold()))


def constants(source: str) -> Iterator[str]:
    """The strings of a module without docstrings, and the names of its constants, which registries use as words."""
    tree = ast.parse(source)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.isupper():
            yield node.id


# -- texts ----------------------------------------------------------------------------------------------------------

IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![\d/]|\.\d)"
HARDWARE = r"(?<![\w:-])[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5,7}|(?:-[0-9A-Fa-f]{2}){5,7})(?![\w:-])"
IPV6 = r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\d{1,3}\.){3}\d{1,3})?(?:/\d{1,3})?(?![\w/])"
REVERSE = r"(?<![\w-])(?:(?:\d{1,3}\.){4}in-addr|(?:[0-9A-Fa-f]\.){32}ip6)\.arpa(?![\w-])"
ADDRESS = re.compile(f"({REVERSE}|{HARDWARE}|{IPV6}|{IPV4})")
"""A text in the form of a hardware address, an IP address, a network in CIDR notation, or the name for a reverse DNS
lookup (RFC 1035, section 3.5; RFC 3596, section 2.5)."""
SEPARATOR = re.compile(r"[\s,;+=/@]+")
"""Separators between the words of a name, a distinguished name or a path."""

LABEL = re.compile(r"\w[\w-]*")
KEPT_LABELS = frozenset({"in-addr", "ip6", "arpa", "local", "localhost", "invalid", "pcap", "pcapng"})
"""Labels that identify nobody: special-use domain names (RFC 6761, RFC 6762, RFC 3172) and names of formats."""
SHORT = (*ATTRIBUTES.values(), "CN", "O", "OU", "C", "L", "ST", "DC", "UID", "STREET")
ATTRIBUTE = frozenset(short.casefold() for short in SHORT)
"""Short names of the attributes of distinguished names (RFC 4514, section 3)."""
PORT = re.compile(r":\d{1,5}")
"""A port after an address."""
NAME_WITH_PORT = re.compile(r"([^:]+)(:\d{1,5})")
"""A name with a port: ``tpe.example:3001``."""

TOKEN = re.compile(r"[^\s\"'`()\[\]{}<>,;|…]+(?:,\d[^\s\"'`()\[\]{}<>;|…]*)?")
"""A word of a sentence with adjacent punctuation."""
EDGE = ".:!?"
ENCODED = re.compile(r"(?:.*\D)?\d{1,3}(?:[,-]\d{1,3}){3,5}|(?=.*\d)(?=.*[a-f])[0-9a-f]{8,}")
"""Digits that are not a quantity: an address with commas (FTP) or hyphens, or a hexadecimal identifier."""


class Anonymizer:
    """Replaces addresses, hardware addresses and names in the values that audits consist of."""

    def __init__(self, pseudonyms: Pseudonyms, vocabulary: frozenset[str], first: Anonymizer | None = None) -> None:
        """``first``: an anonymizer that has collected all names. Sentences lose these names even if their words belong
        to the vocabulary."""
        self.pseudonyms = pseudonyms
        self.vocabulary = vocabulary
        self.known_words = frozenset(first.name_words) if first else frozenset()
        longest_first = sorted(first.phrases, key=lambda name: (-len(name), name)) if first else []
        phrases = "|".join(map(re.escape, longest_first))
        self.known_phrases = re.compile(rf"(?<!\w)({phrases})(?!\w)") if phrases else None
        self.name_words: set[str] = set()
        """Words of the collected names, in lower case."""
        self.phrases: set[str] = set()
        """Collected names of several words."""
        self.private = False
        """Whether the current value is only for checks. Its texts are replaced, but not collected as names, because
        they need not declare their type."""
        self.cached_name = cache(self.replace_name)
        self.cached_text = cache(self.replace_text)
        self.shared: dict[int, tuple[object, object]] = {}
        """``id`` of facts that conversations share → the facts and their replacement."""

    # -- names and sentences ----------------------------------------------------------------------------------------

    def collect(self, name: str) -> None:
        """Collect a name, so that sentences lose it: as a phrase, and its parts as words.

        Numbers and single words of the vocabulary ("ftp", "gateway") are too common to identify anybody.
        """
        parts = [part for part in SEPARATOR.split(name) if part and not ADDRESS.fullmatch(part)]
        if len(parts) > 1:
            self.phrases.add(name)
        for part in parts:
            domains = [part[match.end() :] for match in re.finditer(r"\.", part)]
            for word in (part, *LABEL.findall(part), *(domain for domain in domains if "." in domain)):
                common = self.in_vocabulary(word) and len(LETTERS.sub("", word)) in (0, len(word))
                if len(word) > 2 and not common:
                    self.name_words.add(word.casefold())

    def replace_name(self, name: str) -> str:
        """A name with a pseudonym for every label and address, and its separators unchanged."""
        return self.replace_addresses(name, self.replace_labels)

    def replace_text(self, text: str) -> str:
        """A :data:`~analyzer.safetext.SafeText` with pseudonyms for everything outside of the vocabulary."""
        parts = self.known_phrases.split(text) if self.known_phrases else [text]
        return "".join(
            self.cached_name(part) if index % 2 else self.replace_words(part, text) for index, part in enumerate(parts)
        )

    def replace_words(self, part: str, text: str) -> str:
        """A part of ``text`` that contains no known phrase."""
        return self.replace_addresses(
            part, lambda between: TOKEN.sub(lambda token: self.replace_token(token[0], text), between)
        )

    def replace_addresses(self, text: str, replace_other: Callable[[str], str]) -> str:
        """A text with pseudonyms for its addresses; ``replace_other`` is applied to the text between them."""
        parts = ADDRESS.split(text)
        return "".join(
            self.replace_address(part, replace_other) if index % 2 else replace_other(part)
            for index, part in enumerate(parts)
        )

    def replace_address(self, text: str, replace_other: Callable[[str], str]) -> str:
        """The pseudonym of a text that has the form of an address; ``replace_other`` is applied if it is none."""
        if re.fullmatch(HARDWARE, text):
            return self.pseudonyms.mac(text)
        try:
            if text.casefold().endswith(".arpa"):
                return self.replace_reverse_name(text)
            return self.pseudonyms.address(text)
        except ValueError:
            return replace_other(text)

    def replace_reverse_name(self, name: str) -> str:
        """The name for a reverse DNS lookup of the pseudonym of an address, given that of the address."""
        digits = name.split(".")[-3::-1]
        groups = ("".join(digits[at : at + 4]) for at in range(0, 32, 4))
        address = ".".join(digits) if len(digits) == 4 else ":".join(groups)
        return ipaddress.ip_address(self.pseudonyms.address(address)).reverse_pointer

    def replace_labels(self, text: str) -> str:
        """A text with a pseudonym for every label; a port after a name or an address is kept."""
        if PORT.fullmatch(text):
            return text
        if with_port := NAME_WITH_PORT.fullmatch(text):
            return self.replace_labels(with_port[1]) + with_port[2]

        def replace(match: re.Match[str]) -> str:
            label = match[0]
            attribute = text[match.end() : match.end() + 1] == "=" and label.casefold() in ATTRIBUTE
            return label if attribute or label.casefold() in KEPT_LABELS else self.pseudonyms.label(label)

        return LABEL.sub(replace, text)

    def replace_token(self, token: str, text: str) -> str:
        """A word of ``text`` with its punctuation."""
        word = token.rstrip(EDGE)
        names = {word.casefold(), *LABEL.findall(word.casefold())} & self.known_words
        if self.in_vocabulary(word) and (not names or word == text):
            return token
        return self.replace_labels(word) + token[len(word) :]

    def in_vocabulary(self, text: str) -> bool:
        """Whether a text consists of digits, punctuation and words of the vocabulary."""
        if ENCODED.fullmatch(text.casefold()):
            return False
        words = LETTERS.findall(re.sub(r"0x[0-9a-f]{1,4}\b", "", text.casefold()))
        return all(word in self.vocabulary or word.removesuffix("s") in self.vocabulary for word in words)

    # -- values -----------------------------------------------------------------------------------------------------

    def anonymous(self, value: object, safe_text: bool = False) -> Any:
        """Any value of an audit with pseudonyms; ``safe_text``: its texts are :data:`~analyzer.safetext.SafeText`.

        Raises ``TypeError`` for a value of an unknown type, so that nothing passes unchecked.
        """
        kind: Any = type(value)
        if kind is str:
            if safe_text:
                return self.cached_text(value)
            if not self.private:
                self.collect(str(value))
            return self.cached_name(value)
        if value is None or kind in HARMLESS or isinstance(value, enum.Enum):
            return value
        if isinstance(value, Facts):
            if id(value) not in self.shared:
                self.shared[id(value)] = value, self.dataclass(value)
            return self.shared[id(value)][1]
        if isinstance(value, Conversations):
            return value.replaced(map(self.anonymous, value))
        if isinstance(value, Head):
            # Community ID uses the type and code of ICMP as ports.
            headers = (datagram._replace(data=datagram.data[:2]) for datagram in value.datagrams)
            return Head(value.transport, value.ports, datagrams=tuple(headers) if "icmp" in value.transport else ())
        if dataclasses.is_dataclass(kind):
            return self.dataclass(value)
        if isinstance(value, bytes):
            return hmac.digest(self.pseudonyms.names_key, value, hashlib.sha256)[: len(value)]
        if isinstance(value, Mapping):
            return self.mapping(value, safe_text)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            fields = zip(value._fields, value, strict=True)
            return kind(*(self.anonymous(part, is_safe_text(kind, name)) for name, part in fields))
        if isinstance(value, (tuple, list, set, frozenset)):
            return kind(self.anonymous(part, safe_text) for part in value)
        raise TypeError(f"nothing is known of a {kind.__name__}, which may hold a name")

    def mapping(self, mapping: Mapping[Any, Any], safe_text: bool) -> dict[Any, Any]:
        """A mapping. Names that differ only by case become one, and their counts are added."""
        changed: dict[Any, Any] = {}
        for key, value in mapping.items():
            new_key, new_value = self.anonymous(key, safe_text), self.anonymous(value, safe_text)
            if new_key in changed and isinstance(new_value, int):
                new_value += changed[new_key]
            changed[new_key] = new_value
        return changed

    def dataclass(self, value: Any) -> Any:
        """A dataclass, field by field."""
        kind: Any = type(value)
        changed: dict[str, object] = dict(LEFT_OUT.get(kind, {}))
        outer = self.private
        for field in dataclasses.fields(kind):
            if field.name not in changed:
                self.private = outer or field.name.startswith("_")
                part = getattr(value, field.name)
                changed[field.name] = self.anonymous(part, is_safe_text(kind, field.name))
        self.private = outer
        return dataclasses.replace(value, **changed)


HARMLESS = frozenset({int, float, bool, Frame, ExpectedFlow})
"""Types whose values identify nobody."""

LEFT_OUT: Mapping[type, Mapping[str, object]] = {
    Station: {"signatures": ()},
    Dissection: {"items": (), "parse_errors": ()},
}
"""Class → fields that only checks use, with their replacements."""


@cache
def is_safe_text(kind: type, field: str) -> bool:
    """Whether the type of a class's field is :data:`~analyzer.safetext.SafeText`, alone or inside another type."""
    declared = (str(inspect.get_annotations(base).get(field)) for base in kind.__mro__)
    return any(re.search(r"\bSafeText\b", annotation) for annotation in declared)
