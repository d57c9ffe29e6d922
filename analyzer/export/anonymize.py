"""Audits that may be given away: every address, hardware address and name replaced by a pseudonym.

An audit is anonymised once it is finished, so that its verdicts are the same, and before any report sees it, so that no
format can forget to. What stays is what is known to be harmless, never the reverse:

* Addresses and hardware addresses are found by their form, wherever they stand.
* A text is a name, and replaced label by label, unless its field is of type :data:`~analyzer.safetext.SafeText`.
* In :data:`~analyzer.safetext.SafeText` a word stays if this program could have said it by itself: if it stands in its
  source, its tables or its rules, and is no name elsewhere in the audit. Any other is replaced.
* Numbers, times, ports and protocols stay: they are what is judged. So do special-use addresses.

Bytes that only checks look at are left out.
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
    """The same audit, or list of flows, about pseudonyms.

    The same capture and key give the same pseudonyms; several reports under one key can be compared. ``UsageError`` for
    a key that is shorter than :data:`~analyzer.export.pseudonyms.KEY_BYTES`.
    """
    checked(key)
    profile = result.profile if isinstance(result, Audit) else expected.DEFAULT_PROFILE
    names = Anonymizer(Pseudonyms(key), vocabulary(profile))
    names.anonymous(result)  # tells all names, which a sentence may repeat before the fact that tells them
    return cast(R, Anonymizer(names.pseudonyms, names.vocabulary, names).anonymous(result))


def checked(key: bytes) -> bytes:
    """The key, if it is long enough; else ``UsageError``."""
    if len(key) < KEY_BYTES:
        raise UsageError(f"a key of {len(key)} bytes is too short: it takes {KEY_BYTES} random ones or more")
    return key


# -- what this program could have said --------------------------------------------------------------------------------

LETTERS = re.compile(r"[^\W\d_]+")

PUBLIC = (
    "OpenSSH Dropbear libssh paramiko PuTTY AsyncSSH Debian Ubuntu Raspbian deb vsFTPd ProFTPD Pure-FTPd pyftpdlib "
    "nginx Apache lighttpd uvicorn gunicorn Werkzeug Python websockets curl Wget Mozilla BusyBox udhcp dhcpcd dhclient "
    "SimpleHTTP sntrup mlkem MSFT GPS GNSS PPS DCF GOES pcap pcapng"
)
"""Names of software, algorithms, clocks and formats: they tell what is used, and not by whom."""


@cache
def vocabulary(profile: str) -> frozenset[str]:
    """All words, in lower case, of which this program's sentences and terms are made."""
    package = Path(__file__).parents[1]
    own = (path for path in package.rglob("*.py") if "reports" not in path.parts and path.name not in ("cli.py",))
    texts = [PUBLIC]
    texts += [text for path in own for text in constants(path.read_text(encoding="utf-8"))]
    texts += [path.read_text(encoding="utf-8") for path in package.rglob("*.csv")]
    texts += [path.read_text(encoding="utf-8") for path in expected.rules_folder().rglob("*.toml")]
    texts += [repr(table) for table in expected.load(profile).values()]
    texts += [sections(check)["remedy"] for check in checks.CHECKS]
    return frozenset(word for text in texts for word in LETTERS.findall(text.casefold()))


def constants(source: str) -> Iterator[str]:
    """The texts in a module's code, documentation aside, and the names of its constants, by which registries go."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.isupper():
            yield node.id


# -- texts ----------------------------------------------------------------------------------------------------------

IPV4 = r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?:/\d{1,2})?(?![\d/]|\.\d)"
HARDWARE = r"(?<![\w:-])[0-9A-Fa-f]{2}(?:(?::[0-9A-Fa-f]{2}){5,7}|(?:-[0-9A-Fa-f]{2}){5,7})(?![\w:-])"
IPV6 = r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?:\d{1,3}\.){3}\d{1,3})?(?:/\d{1,3})?(?![\w/])"
REVERSE = r"(?<![\w-])(?:(?:\d{1,3}\.){4}in-addr|(?:[0-9A-Fa-f]\.){32}ip6)\.arpa(?![\w-])"
ADDRESS = re.compile(f"({REVERSE}|{HARDWARE}|{IPV6}|{IPV4})")
"""Whatever has the form of a hardware address or an IP address, of a network in CIDR notation, or of the name below
which DNS keeps an address's own name (RFC 1035, section 3.5; RFC 3596, section 2.5)."""
SEPARATOR = re.compile(r"[\s,;+=/@]+")
"""What stands between the words of a name, of a distinguished name, of a path."""

LABEL = re.compile(r"\w[\w-]*")
STAYING = frozenset({"in-addr", "ip6", "arpa", "local", "localhost", "invalid", "pcap", "pcapng"})
"""Labels that are the same everywhere: special-use domain names (RFC 6761, RFC 6762, RFC 3172) and names of formats."""
SHORT = (*ATTRIBUTES.values(), "CN", "O", "OU", "C", "L", "ST", "DC", "UID", "STREET")
ATTRIBUTE = frozenset(short.casefold() for short in SHORT)
"""Short names of attributes in a distinguished name (RFC 4514, section 3)."""
PORT = re.compile(r":\d{1,5}")

TOKEN = re.compile(r"[^\s\"'`()\[\]{}<>,;|…]+(?:,\d[^\s\"'`()\[\]{}<>;|…]*)?")
"""A word of a sentence, with what is written close to it."""
EDGE = ".:!?"
ENCODED = re.compile(r"(?:.*\D)?\d{1,3}(?:[,-]\d{1,3}){3,5}|(?=.*\d)(?=.*[a-f])[0-9a-f]{8,}")
"""Numbers that are no amount: an address with commas (FTP) or hyphens, an identifier in hexadecimal."""


class Anonymizer:
    """Replaces what has to be replaced, in any value of which audits are made."""

    def __init__(self, pseudonyms: Pseudonyms, vocabulary: frozenset[str], before: Anonymizer | None = None) -> None:
        """``before``: what met all names, which sentences repeat; there they are replaced even if their words are those
        of the vocabulary."""
        self.pseudonyms = pseudonyms
        self.vocabulary = vocabulary
        self.known = frozenset(before.told) if before else frozenset()
        longest = sorted(before.phrases, key=lambda name: (-len(name), name)) if before else []
        self.repeated = re.compile(rf"(?<!\w)({'|'.join(map(re.escape, longest))})(?!\w)") if longest else None
        self.told: set[str] = set()
        """Words of names that were met, in lower case."""
        self.phrases: set[str] = set()
        """Names of several words that were met."""
        self.private = False
        """Whether what is being looked at is for the checks only, where texts that are no names need not say so."""
        self.name = cache(self.name_of)
        self.words = cache(self.words_of)
        self.shared: dict[int, tuple[object, object]] = {}
        """Facts that many conversations share: by identity, with what became of them."""

    def tell(self, name: str) -> None:
        """Remember a name as what no sentence may repeat: as a whole, and its parts as words.

        A number, or a single word that this program says as well ("ftp", "gateway"), is too common to name anybody.
        """
        parts = [part for part in SEPARATOR.split(name) if part and not ADDRESS.fullmatch(part)]
        if len(parts) > 1:
            self.phrases.add(name)
        for part in parts:
            domains = [part[match.end() :] for match in re.finditer(r"\.", part)]
            for each in (part, *LABEL.findall(part), *(domain for domain in domains if "." in domain)):
                common = self.own(each) and len(LETTERS.sub("", each)) in (0, len(each))
                if len(each) > 2 and not common:
                    self.told.add(each.casefold())

    def name_of(self, name: str) -> str:
        """A name: each of its labels a pseudonym, what stands between them as it is."""
        return self.by_address(name, self.labels)

    def words_of(self, text: str) -> str:
        """SafeText: those that this program could have said by itself stay."""
        parts = self.repeated.split(text) if self.repeated else [text]
        return "".join(self.name(part) if index % 2 else self.sentence(part, text) for index, part in enumerate(parts))

    def sentence(self, part: str, whole: str) -> str:
        """A part of a text in which no name of several words is repeated."""
        return self.by_address(part, lambda between: TOKEN.sub(lambda found: self.token(found[0], whole), between))

    def by_address(self, text: str, other: Callable[[str], str]) -> str:
        """Text with pseudonyms for its addresses; ``other`` says what becomes of what stands between them."""
        parts = ADDRESS.split(text)
        return "".join(self.address(part, other) if index % 2 else other(part) for index, part in enumerate(parts))

    def address(self, text: str, other: Callable[[str], str]) -> str:
        """The pseudonym of what has an address's form, or of another text, if it is none."""
        if re.fullmatch(HARDWARE, text):
            return self.pseudonyms.mac(text)
        try:
            return self.reverse(text) if text.casefold().endswith(".arpa") else self.pseudonyms.address(text)
        except ValueError:
            return other(text)

    def reverse(self, name: str) -> str:
        """The reverse name of the address that stands for the one that a reverse name is about."""
        digits = name.split(".")[-3::-1]
        groups = ("".join(digits[at : at + 4]) for at in range(0, 32, 4))
        address = ".".join(digits) if len(digits) == 4 else ":".join(groups)
        return ipaddress.ip_address(self.pseudonyms.address(address)).reverse_pointer

    def labels(self, text: str) -> str:
        """Text with a pseudonym for each label of a name; a port behind an address stays."""
        if PORT.fullmatch(text):
            return text

        def pseudonym(found: re.Match[str]) -> str:
            label = found[0]
            attribute = text[found.end() : found.end() + 1] == "=" and label.casefold() in ATTRIBUTE
            return label if attribute or label.casefold() in STAYING else self.pseudonyms.label(label)

        return LABEL.sub(pseudonym, text)

    def token(self, token: str, whole: str) -> str:
        """One word of a text, with its punctuation."""
        core = token.rstrip(EDGE)
        names = {core.casefold(), *LABEL.findall(core.casefold())} & self.known
        if self.own(core) and (not names or core == whole):
            return token
        return self.labels(core) + token[len(core) :]

    def own(self, word: str) -> bool:
        """Whether this program could say a word by itself: a number, or words of its vocabulary put together."""
        if ENCODED.fullmatch(word.casefold()):
            return False
        letters = LETTERS.findall(re.sub(r"0x[0-9a-f]{1,4}\b", "", word.casefold()))
        return all(each in self.vocabulary or each.removesuffix("s") in self.vocabulary for each in letters)

    # -- values -----------------------------------------------------------------------------------------------------

    def anonymous(self, value: object, words: bool = False) -> Any:
        """Any value of which an audit is made; ``words``: its texts are :data:`~analyzer.safetext.SafeText`.

        ``TypeError`` for one that is not known here: nothing passes unseen.
        """
        kind: Any = type(value)
        if kind is str:
            if words:
                return self.words(value)
            if not self.private:
                self.tell(str(value))
            return self.name(value)
        if value is None or kind in INERT or isinstance(value, enum.Enum):
            return value
        if isinstance(value, Facts):
            if id(value) not in self.shared:
                self.shared[id(value)] = value, self.dataclass(value)
            return self.shared[id(value)][1]
        if isinstance(value, Conversations):
            return value.replaced(map(self.anonymous, value))
        if isinstance(value, Head):
            kinds = (each._replace(data=each.data[:2]) for each in value.datagrams)
            # Of ICMP, type and code are what Community ID takes for ports.
            return Head(value.transport, value.ports, datagrams=tuple(kinds) if "icmp" in value.transport else ())
        if dataclasses.is_dataclass(kind):
            return self.dataclass(value)
        if isinstance(value, bytes):
            return hmac.digest(self.pseudonyms.names_key, value, hashlib.sha256)[: len(value)]
        if isinstance(value, Mapping):
            return self.mapping(value, words)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            pairs = zip(value._fields, value, strict=True)
            return kind(*(self.anonymous(each, says(kind, name)) for name, each in pairs))
        if isinstance(value, (tuple, list, set, frozenset)):
            return kind(self.anonymous(each, words) for each in value)
        raise TypeError(f"nothing is known of a {kind.__name__}, which may hold a name")

    def mapping(self, value: Mapping[Any, Any], words: bool) -> dict[Any, Any]:
        """A mapping. Names that differ by case only become one, and what was counted of them is added up."""
        changed: dict[Any, Any] = {}
        for key, each in value.items():
            name, other = self.anonymous(key, words), self.anonymous(each, words)
            changed[name] = changed[name] + other if name in changed and isinstance(other, int) else other
        return changed

    def dataclass(self, value: Any) -> Any:
        """A dataclass, field by field."""
        kind: Any = type(value)
        left_out = LEFT_OUT.get(kind, {})
        changed: dict[str, object] = {}
        outside = self.private
        for field in dataclasses.fields(kind):
            name = field.name
            self.private = outside or name.startswith("_")
            changed[name] = (
                left_out[name] if name in left_out else self.anonymous(getattr(value, name), says(kind, name))
            )
        self.private = outside
        return dataclasses.replace(value, **changed)


INERT = frozenset({int, float, bool, Frame, ExpectedFlow})
"""Types of values in which nobody is named."""

LEFT_OUT: Mapping[type, Mapping[str, object]] = {
    Station: {"signatures": ()},
    Dissection: {"items": (), "parse_errors": ()},
}
"""What the checks have looked at, and no report shows."""


@cache
def says(kind: type, name: str) -> bool:
    """Whether a field of a class is declared to be :data:`~analyzer.safetext.SafeText`."""
    declared = (str(inspect.get_annotations(each).get(name)) for each in kind.__mro__)
    return any(re.search(r"\bSafeText\b", each) for each in declared)
