"""Servers whose habits a verdict must know: those that refuse an address only after the message (``egress.json``)."""

import os
from functools import cache

import msgspec


class Provider(msgspec.Struct, frozen=True):
    """``hosts`` are names or ``*.suffix``, ``banners`` texts of the greeting; ``source`` says where it is described."""

    name: str
    hosts: tuple[str, ...]
    banners: tuple[str, ...]
    source: str


class _File(msgspec.Struct, frozen=True, rename="camel"):
    refuses_at_dot: tuple[Provider, ...]


def refuses_at_dot(host: str, banner: str = "", ehlo_line: str = "") -> str | None:
    """Return the name of the provider, where it is one that takes every envelope and refuses after the dot."""
    names = [word.lower().rstrip(".") for word in (host, first_word(banner), first_word(ehlo_line)) if word]
    for provider in _file().refuses_at_dot:
        if any(text.lower() in banner.lower() for text in provider.banners):
            return provider.name
        if any(_is(name, pattern) for name in names for pattern in provider.hosts):
            return provider.name
    return None


def first_word(text: str) -> str:
    """Return the first word, in a greeting or an EHLO reply the server's name; empty where there is none."""
    return text.split(maxsplit=1)[0] if text.strip() else ""


def _is(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*.") else name == pattern


@cache
def _file() -> _File:
    with open(os.path.join(os.path.dirname(__file__), "egress.json"), "rb") as file:  # a pod starts without pathlib
        return msgspec.json.decode(file.read(), type=_File)
