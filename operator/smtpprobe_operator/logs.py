"""Logs: one short line an event, bounded, on stderr."""

import logging
from collections.abc import Callable

LONGEST_LINE = 600
EXIT_OWN_FAULT = 3


class OneLine(logging.Formatter):
    """A record as one line of at most 600 characters; a traceback follows only for faults of our own."""

    def format(self, record: logging.LogRecord) -> str:
        text = " ".join(record.getMessage().split())
        if len(text) > LONGEST_LINE:
            text = f"{text[:LONGEST_LINE]}… ({len(text)} characters)"
        line = f"{self.formatTime(record)} {record.levelname} {record.name}: {text}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def configure(level: str) -> None:
    """Log to stderr; kopf and the HTTP client speak only when something is wrong."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for noisy in ("kopf", "aiohttp", "kubernetes", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.DEBUG if level == "DEBUG" else logging.WARNING)


def reported(run: Callable[[], None]) -> int:
    """Run to the end and turn what ended it into one line and an exit code."""
    log = logging.getLogger("smtpprobe")
    try:
        run()
    except KeyboardInterrupt:
        return 0
    except BaseExceptionGroup as group:
        for error in group.exceptions:
            log.critical("ended by %s: %s", type(error).__name__, error, exc_info=error)
        return EXIT_OWN_FAULT
    return 0
