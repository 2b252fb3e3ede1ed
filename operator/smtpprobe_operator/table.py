"""Pure: what ``kubectl get smtpprobes`` shows, for a terminal of any width."""

import textwrap
from collections.abc import Sequence

from smtpprobe.vocabulary import ConditionStatus, ConditionType
from smtpprobe_operator.registry import Probe

WIDE = ("NAME", "READY", "REASON", "HOST", "PORT", "MODE", "EGRESS")
# A message begins with host, port and mode: a narrow table leaves their columns to it.
NARROW = ("NAME", "READY", "REASON", "EGRESS")
ROOM_FOR_A_MESSAGE = 40
GAP = "   "
INDENT = "  "
_COLOURS = {ConditionStatus.TRUE: "32", ConditionStatus.FALSE: "31", ConditionStatus.UNKNOWN: "33"}


def table(probes: Sequence[Probe], *, width: int | None = None, colour: bool = False) -> str:
    """Return a row a probe with the message at its end; under the row where ``width`` has no room for it."""
    rows = [_row(probe) for probe in sorted(probes, key=lambda probe: probe.path)]
    first = ("NAMESPACE",) if len({probe.namespace for probe in probes}) > 1 else ()
    widths = {column: max(len(column), *(len(row[column]) for row in rows), 0) for column in (*first, *WIDE)}
    full = sum(widths.values()) + len(GAP) * len(widths)
    beside = width is None or full + ROOM_FOR_A_MESSAGE <= width
    if not beside:
        widths = {column: size for column, size in widths.items() if column in (*first, *NARROW)}
    head = _cells({column: column for column in widths}, widths)
    lines = [f"{head}{GAP}MESSAGE" if beside else head.rstrip()]
    for row in rows:
        cells = _painted(_cells(row, widths), row, widths) if colour else _cells(row, widths)
        message = row["MESSAGE"]
        if beside:
            room = width - full if width else len(message)
            lines.append(f"{cells}{GAP}{message if len(message) <= room else f'{message[: room - 1]}…'}".rstrip())
        else:
            lines += [cells.rstrip(), *_under(message, width or 80)]
    return "\n".join(lines)


def _cells(row: dict[str, str], widths: dict[str, int]) -> str:
    return GAP.join(row[column].ljust(size) for column, size in widths.items())


def _painted(cells: str, row: dict[str, str], widths: dict[str, int]) -> str:
    """Colour the word under READY; done last, as colours have no width."""
    start = 0
    for column, size in widths.items():
        if column == "READY":
            break
        start += size + len(GAP)
    end = start + len(row["READY"])
    return f"{cells[:start]}\x1b[{_COLOURS[ConditionStatus(row['READY'])]}m{cells[start:end]}\x1b[0m{cells[end:]}"


def _under(message: str, width: int) -> list[str]:
    return textwrap.wrap(
        message,
        width=max(width, 20),
        initial_indent=INDENT,
        subsequent_indent=INDENT,
        max_lines=2,
        placeholder=" …",
    )


def _row(probe: Probe) -> dict[str, str]:
    ready = next((known for known in probe.status.conditions if known.type is ConditionType.READY), None)
    spec = probe.spec
    return {
        "NAMESPACE": probe.namespace,
        "NAME": probe.name,
        "READY": (ready.status if ready else ConditionStatus.UNKNOWN).value,
        "REASON": ready.reason if ready else "Pending",
        "HOST": spec.host if spec else "-",
        "PORT": str(spec.port) if spec and spec.port else "-",
        "MODE": spec.mode.value if spec else "-",
        "EGRESS": probe.status.egress.verdict.value,
        "MESSAGE": ready.message if ready else "",
    }
