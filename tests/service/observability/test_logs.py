"""The logging of a process, tried in processes of their own, since it is set up once in each."""

import json
import subprocess
import sys
from typing import Any

PREAMBLE = """
import logging, structlog
from bursar.service.observability.logs import configure_logging
configure_logging("info", "json")
log = structlog.get_logger()
"""


def lines_of(program: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", PREAMBLE + program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_carries_the_context_of_its_message() -> None:
    [line] = lines_of(
        "with structlog.contextvars.bound_contextvars(message_id='evt_1', account='user:u1', trace='t'):\n"
        "    log.info('batch decided', messages=3)"
    )
    assert line.items() >= {"event": "batch decided", "message_id": "evt_1", "account": "user:u1", "trace": "t"}.items()
    assert line["level"] == "info"
    assert line["messages"] == 3
    assert "timestamp" in line


def test_every_line_of_a_process_names_it() -> None:
    """`bursar up` writes the lines of four processes to one log."""
    lines = lines_of(
        "import asyncio\n"
        "configure_logging('info', 'json', process='worker')\n"
        "async def main():\n"
        "    log.info('ours')\n"
        "    logging.getLogger('elsewhere').warning('foreign')\n"
        "asyncio.run(main())"
    )
    assert [(line["event"], line["process"]) for line in lines] == [("ours", "worker"), ("foreign", "worker")]


def test_ms_14_other_loggers_go_through_redaction_too() -> None:
    [line] = lines_of(
        "logging.getLogger('uvicorn.error').warning('sent to %s by %s', 'ann@example.com', 'sk_live_abc12345')"
    )
    assert line["event"] == "sent to [redacted] by [redacted]"
    assert line["logger"] == "uvicorn.error"


def test_ms_14_a_foreign_exception_says_its_kind_and_place_but_not_its_text() -> None:
    [ours, foreign] = lines_of(
        "def parse():\n"
        "    raise ValueError('Ann Lee, 1 Main Street')\n"
        "for logger in (log, logging.getLogger('elsewhere')):\n"
        "    try:\n"
        "        parse()\n"
        "    except ValueError:\n"
        "        logger.exception('message failed')"
    )
    for line in (ours, foreign):
        assert line["event"] == "message failed"
        assert line["error"].startswith("ValueError at parse")
        assert "Ann Lee" not in json.dumps(line)
        assert any("parse" in frame for frame in line["stack"])


def test_ms_14_on_a_terminal_too_an_exception_says_its_kind_and_place_but_not_its_text() -> None:
    program = (
        "configure_logging('info', 'console')\n"
        "def parse():\n"
        "    raise ValueError('Ann Lee, 1 Main Street')\n"
        "for logger in (log, logging.getLogger('elsewhere')):\n"
        "    try:\n"
        "        parse()\n"
        "    except ValueError:\n"
        "        logger.exception('message failed')"
    )
    done = subprocess.run([sys.executable, "-c", PREAMBLE + program], capture_output=True, text=True, check=True)

    assert done.stderr.count("message failed") == 2
    assert done.stderr.count("ValueError at parse") == 2
    assert "Ann Lee" not in done.stderr
    assert any(line.endswith(" parse") for line in done.stderr.splitlines())


def test_an_error_of_ours_says_its_sentence() -> None:
    [line] = lines_of(
        "from bursar.billing.errors import Retryable\n"
        "try:\n"
        "    raise Retryable('the broker does not answer')\n"
        "except Retryable:\n"
        "    log.exception('publish failed')"
    )
    assert line["error"] == "Retryable: the broker does not answer"


def test_lines_below_the_level_are_not_written() -> None:
    assert lines_of("log.debug('detail'); logging.getLogger('httpx').info('GET /v1/customers/cus_1')") == []
