r"""Which other form of a user name a server may want: ``name``, ``name@domain``, ``DOMAIN\name``, a service's. Pure.

Servers say the same to a wrong password as to ``sender`` where they know only ``sender@example.com``. What services
want is data (``usernames.toml``, read only after a refused login). A form that would show a key of some service is
never named: it stands there as ``NAME@example.com``.
"""

import re
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import msgspec

from smtpprobe.credentials import user_shape
from smtpprobe.model import Value

MAX_CHARS: Final = 254
# Who knows what the service wants, the others only what is usual.
SURE, LIKELY, POSSIBLE = 0.45, 0.2, 0.1
_SECOND_LEVEL = frozenset({"co", "com", "or", "org", "ne", "net", "re", "pe", "go", "gov", "ac", "edu", "mil", "gob"})
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
# Long, or of digits and letters in turn: what a service made, and perhaps its secret.
_KEY = re.compile(r"(?=.{18})[A-Za-z0-9+/_-]+|(?=(?:[^0-9]*[0-9]){6})(?=(?:[^A-Za-z]*[A-Za-z]){4}).*")
_EXCHANGE = re.compile(r"\bmicrosoft esmtp|\bexchange\b", re.IGNORECASE)
_WANTS_ADDRESS = re.compile(
    r"(full|complete|whole|entire) (e-?mail|mail|address|user ?name)"
    r"|(e-?mail|mail) address (as|for) .{0,20}(user|login)"
    r"|(domain|realm).{0,20}(missing|required|needed)|(user ?name|login).{0,30}(include|contain|with) .{0,20}(domain|@)"
    r"|user@domain|전체 ?(이메일|메일) ?주소",
    re.IGNORECASE,
)
_WANTS_BARE = re.compile(r"(without|omit|remove|no) .{0,12}(@|domain)|only the (user|name|part) ", re.IGNORECASE)


class Service(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of the file."""

    name: str
    hosts: tuple[str, ...]
    form: str
    en: str
    ko: str
    source: str
    literal: str = ""
    domain: str = ""
    shape: str = ""


class Known(Value, frozen=True, kw_only=True):
    """What a session knows about its login: the user name as the Secret holds it, server, sender, refusal."""

    username: str
    host: str
    banner: str = ""
    mail_from: str = ""
    reply: str = ""
    password: str = ""
    ntlm: bool = False


class Form(Value, frozen=True, kw_only=True):
    r"""One form to try: ``username`` as it goes to the server (empty: nobody here can make it), ``shown`` for texts.

    ``shape`` is ``bare``, ``address``, ``domain``, ``literal`` or ``key``; ``service`` names the entry whose words say
    more; ``confidence`` that the form is what was wrong.
    """

    shape: str
    shown: str
    username: str = ""
    service: str = ""
    confidence: float = POSSIBLE


def forms(known: Known) -> tuple[Form, ...]:
    """Return the other forms that the user name may need, best first; none where nothing speaks for any."""
    name = known.username.strip()
    found: list[Form] = []
    service = service_of(known.host)
    if service is not None:
        found += _of_service(service, name, known)
        # What the service wants is known, so nothing else is worth a login.
        return tuple(found)
    for shape, confidence in _usual(name, known):
        made = _made(shape, name, known)
        if made and made.casefold() != name.casefold():
            found.append(Form(shape=shape, username=made, shown=shown(made, known.password), confidence=confidence))
    return tuple(dict.fromkeys(found))


def nothing_to_try(known: Known) -> str:
    """Say why ``forms`` has nothing that could be sent."""
    if user_shape(known.username.strip()) == "bare" and not domain_for(known):
        return "no other form to try: neither spec.envelope.from nor the server's name gives a domain for the user name"
    return "no other form to try: the user name has the form that this server is known to want"


def service_of(host: str) -> Service | None:
    """Find the service that a server's name belongs to."""
    name = host.lower().rstrip(".")
    return next((one for one in _services() if any(fnmatchcase(name, host) for host in one.hosts)), None)


def service_named(name: str) -> Service | None:
    """Find an entry by its name."""
    return next((one for one in _services() if one.name == name), None)


def own_domain(*names: str) -> str:
    """Return the domain that the first usable of these server names seems to be registered under; empty for none.

    ``mx1.mail.example.co.kr`` gives ``example.co.kr``: two labels, three below a country's ``co``, ``or``, ``com``…
    """
    for text in names:
        name = text.lower().strip(".")
        if _is_address(name) or not _HOST.fullmatch(name):
            continue
        labels = name.split(".")
        keep = 3 if len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL else 2
        if labels[-1] not in {"localdomain", "local", "localhost", "invalid", "arpa"}:
            return ".".join(labels[-keep:])
    return ""


def domain_for(known: Known) -> str:
    """Return the domain for a bare user name: the sender's, else the service's, else the server's own."""
    sender = known.mail_from.rpartition("@")[2].lower()
    service = service_of(known.host)
    if sender and not _is_address(sender.strip("[]")):
        return sender
    if service is not None:
        return service.domain
    return own_domain(known.host, known.banner.split(maxsplit=1)[0] if known.banner.strip() else "")


def shown(username: str, password: str = "") -> str:
    """Return a user name for texts; what looks like a key, or holds the password, is NAME there."""
    name = username.rpartition("\\")[2].partition("@")[0]
    secret = bool(password) and (password.casefold() in username.casefold() or name.casefold() in password.casefold())
    if _NAME.fullmatch(name) and not _KEY.fullmatch(name) and not secret and username.isprintable():
        return username[:MAX_CHARS]
    return username.replace(name, "NAME")[:MAX_CHARS] if name else "NAME"


def _of_service(service: Service, name: str, known: Known) -> list[Form]:
    if service.form == "literal":
        if name == service.literal:
            return []
        word = service.literal
        return [Form(shape="literal", username=word, shown=word, service=service.name, confidence=SURE)]
    if service.form == "key":
        fits = re.fullmatch(service.shape, name) is not None
        return [] if fits else [Form(shape="key", shown="", service=service.name, confidence=SURE)]
    if user_shape(name) == service.form:
        return []
    made = _made(service.form, name, known)
    if not made:
        return [Form(shape=service.form, shown="", service=service.name, confidence=SURE)]
    text = shown(made, known.password)
    return [Form(shape=service.form, username=made, shown=text, service=service.name, confidence=SURE)]


def _usual(name: str, known: Known) -> list[tuple[str, float]]:
    """Return shapes with their confidence, likeliest first, for a server that nothing is known about."""
    shape = user_shape(name)
    exchange = known.ntlm or _EXCHANGE.search(known.banner) is not None
    if shape == "bare":
        usual = [("address", LIKELY), ("domain", LIKELY if exchange else 0.0)]
    elif shape == "address":
        usual = [("bare", POSSIBLE), ("domain", POSSIBLE if exchange else 0.0)]
    else:
        usual = [("address", LIKELY), ("bare", POSSIBLE)]
    if _WANTS_ADDRESS.search(known.reply) and shape != "address":
        usual = [("address", SURE), *usual[1:]]
    elif _WANTS_BARE.search(known.reply) and shape != "bare":
        usual = [("bare", SURE), *(one for one in usual if one[0] != "bare")]
    return [one for one in usual if one[1] > 0]


def _made(shape: str, name: str, known: Known) -> str:
    prefix, _, rest = name.rpartition("\\")
    local, _, domain = rest.partition("@")
    if not local:
        return ""
    if shape == "bare":
        return local
    if shape == "domain":
        label = (domain or domain_for(known)).partition(".")[0]
        return f"{label.upper()}\\{local}" if label and not prefix else ""
    domain = domain or domain_for(known)
    return f"{local}@{domain}" if domain else ""


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


@cache
def _services() -> tuple[Service, ...]:
    raw = tomllib.loads(Path(__file__).with_name("usernames.toml").read_text("utf-8"))
    return msgspec.convert(raw["service"], tuple[Service, ...])
