"""Our address in the server's own words: EHLO reply and refusals, and the comparison with expectedCIDRs."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from smtpprobe import egress
from smtpprobe.vocabulary import ConditionStatus, EgressMethod, EgressReason

LINES = tomllib.loads((Path(__file__).parent / "data" / "ehlo_lines.toml").read_text())["line"]
HELO = "shop.example.com"


@pytest.mark.parametrize("line", LINES, ids=[line["server"] for line in LINES])
def test_ehlo_line(line):
    """Each server's first EHLO line yields exactly the address it echoes, or none, or a proxy's."""
    helo, public = line.get("helo", HELO), not line.get("internal", False)
    assert egress.from_ehlo(line["text"], helo, public) == line.get("ip")
    assert egress.echo_is_proxy(line["text"], helo, public) is line.get("proxy", False)


def test_the_fourteen_lines_are_there():
    """Nine servers that echo and five that do not are in the file."""
    fourteen = LINES[:14]
    assert sum("ip" in line for line in fourteen) == 9


def usable(ip) -> bool:
    return not ip.is_unspecified and not ip.is_multicast


@given(
    ip=st.ip_addresses().filter(lambda ip: usable(getattr(ip, "ipv4_mapped", None) or ip)),
    name=st.sampled_from(["nat7.example.org", HELO, "[198.51.100.99]", ""]),
    end=st.sampled_from(["", ", pleased to meet you", ")", " ready"]),
)
@settings(max_examples=200, deadline=None)
def test_any_echoed_address_is_found(ip, name, end):
    """Whatever address stands last in brackets is found, in canonical form, unless we said it ourselves."""
    line = f"250-mail.example.net Hello {name} [{ip}]{end}"
    wanted = getattr(ip, "ipv4_mapped", None) or ip
    assert egress.from_ehlo(line, HELO, False) == str(wanted)


@given(st.text(max_size=200), st.text(max_size=20), st.booleans())
@settings(max_examples=300, deadline=None)
def test_no_line_breaks_the_extraction(line, helo, public):
    """Whatever a server writes and whatever our name is, the answer is an address or None."""
    ip = egress.from_ehlo(line, helo, public)
    assert ip is None or egress.seen(ip, EgressMethod.EHLO_REPLY).rank == "A1"
    quoted = egress.from_reply(line, helo, public)
    assert quoted is None or egress.seen(quoted, EgressMethod.QUOTED_IN_REPLY).rank == "A2"


def test_the_servers_own_address_is_the_last_choice():
    """A line that names the server's address beside ours yields ours; alone it still counts (loopback, hairpin)."""
    line = "250 mail.example.net [203.0.113.7] via [198.51.100.5]"
    assert egress.from_ehlo(line, HELO, True, "198.51.100.5") == "203.0.113.7"
    assert egress.from_ehlo("250 mx Hello [127.0.0.1]", HELO, False, "127.0.0.1") == "127.0.0.1"


@pytest.mark.parametrize(
    ("text", "ip"),
    [
        ("5.7.1 <unknown[203.0.113.13]>: Client host rejected: Access denied", "203.0.113.13"),
        ("4.7.25 Client host rejected: cannot find your hostname, [203.0.113.25]", "203.0.113.25"),
        ("5.7.1 Service unavailable; Client host [203.0.113.25] blocked using zen.spamhaus.org", "203.0.113.25"),
        ("4.7.0 mail.example.net Error: too many connections from 203.0.113.25", "203.0.113.25"),
        ("5.7.606 Access denied, banned sending IP [203.0.113.25]. To request removal", "203.0.113.25"),
        ("5.7.1 Unfortunately, messages from [203.0.113.25] weren't sent.", "203.0.113.25"),
        ("5.7.511 Access denied, banned sender[203.0.113.25]. To request", "203.0.113.25"),
        ("5.7.1 Invalid credentials for relay [203.0.113.129]. The IP address you've", "203.0.113.129"),
        ("5.7.1 [203.0.113.25] The IP you're using to send mail is not authorized to", "203.0.113.25"),
        ("5.7.1 [203.0.113.25 14] Messages missing a valid address", "203.0.113.25"),
        (
            "4.7.0 [TSS04] Messages from 203.0.113.25 temporarily deferred - 4.16.55.1; see https://x.example",
            "203.0.113.25",
        ),
        (
            "[203.0.113.190]:42630 is not permitted to relay through this server without authentication.",
            "203.0.113.190",
        ),
        (
            '"Your IP: 203.0.113.21 : Your domain ip-10-0-0-1.ec2.internal is not allowed in header From"',
            "203.0.113.21",
        ),
        ("IP=203.0.113.44 - A problem occurred. (Ask your postmaster for help)", "203.0.113.44"),
        ("The sending IP (203.0.113.4) is listed on https://spamrl.com/.", "203.0.113.4"),
        ("example.com doesn't allow sending mails from 203.0.113.25", "203.0.113.25"),
        ("Blocked. See https://postmaster.gmx.net/en/error-messages?ip=203.0.113.25&c=hi", "203.0.113.25"),
        ("rejected because 203.0.113.25 is in a black list at dnsbl.example.org", "203.0.113.25"),
        ("Ip frequency limited [EXAMPLE Blocked IP 203.0.113.22].", "203.0.113.22"),
        ("5.7.1 Access denied [IPv6:2001:db8::25]", "2001:db8::25"),
        (
            "4.7.26 Access denied, a message sent over IPv6 [2001:db8:f200:2004::240] must pass",
            "2001:db8:f200:2004::240",
        ),
        ("5.7.1 <user@example.com>: Relay access denied", None),
        ("5.7.1 <user@[203.0.113.9]>: Relay access denied", None),
        ("5.7.8 Error: authentication failed", None),
        ("4.7.0 Try again later, closing connection. (EHLO) b1-20020a05", None),
        ("5.1.0 fe:ed request 12:30:45 denied", None),
        ("", None),
    ],
)
def test_refusals_that_quote_an_address(text, ip):
    """Refusals of real servers yield the client address they name, never a version, a time or a recipient's literal."""
    assert egress.from_reply(text, HELO, True) == ip


def test_refusals_do_not_name_the_server_or_an_internal_hop():
    """The server's own address and, from a public server, internal ones are not ours."""
    assert egress.from_reply("relay denied at [198.51.100.5]", HELO, True, "198.51.100.5") is None
    assert egress.from_reply("denied for [192.168.1.176]", HELO, True) is None
    assert egress.from_reply("denied for [192.168.1.176]", HELO, False) == "192.168.1.176"


A1 = EgressMethod.EHLO_REPLY


@pytest.mark.parametrize(
    ("ips", "cidrs", "status", "reason"),
    [
        (["203.0.113.7"], ["203.0.113.0/24"], ConditionStatus.TRUE, EgressReason.IN_EXPECTED_RANGE),
        (
            ["203.0.113.7", "2001:db8::7"],
            ["203.0.113.0/24", "2001:db8::/32"],
            ConditionStatus.TRUE,
            EgressReason.IN_EXPECTED_RANGE,
        ),
        (["203.0.113.7"], ["203.0.113.7"], ConditionStatus.TRUE, EgressReason.IN_EXPECTED_RANGE),
        (["203.0.113.7"], ["203.0.113.99/24"], ConditionStatus.TRUE, EgressReason.IN_EXPECTED_RANGE),
        (
            ["203.0.113.7", "198.51.100.1"],
            ["203.0.113.0/24"],
            ConditionStatus.FALSE,
            EgressReason.OUTSIDE_EXPECTED_RANGE,
        ),
        (["2001:db8::7"], ["203.0.113.0/24"], ConditionStatus.FALSE, EgressReason.OUTSIDE_EXPECTED_RANGE),
        ([], ["203.0.113.0/24"], ConditionStatus.UNKNOWN, EgressReason.NOT_OBSERVABLE),
        (["203.0.113.7"], [], ConditionStatus.UNKNOWN, EgressReason.NOT_OBSERVABLE),
    ],
)
def test_expected_ranges(ips, cidrs, status, reason):
    """One observed address outside expectedCIDRs makes EgressExpected False; none observed leaves it Unknown."""
    assert egress.expected([egress.seen(ip, A1) for ip in ips], cidrs) == (status, reason)


def test_a_socket_address_is_no_proof_of_the_range():
    """The pod's own socket address (rank F) neither meets nor misses expectedCIDRs."""
    socket = egress.seen("203.0.113.7", EgressMethod.SOCKET)
    assert egress.expected([socket], ["203.0.113.0/24"])[1] is EgressReason.NOT_OBSERVABLE
