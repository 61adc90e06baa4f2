"""Writes `docs/configuration.md` from the settings class: `python -m bursar.service.settings_page`."""

from pathlib import Path

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bursar.service.settings import CHECKOUT, Settings

PAGE = CHECKOUT / "docs" / "configuration.md"

INTRODUCTION = """\
# Configuration

Every process reads its settings from the environment. A wrong or missing one stops the start with exit code 1 and one
sentence that names the variable, never its value. An empty value counts as missing. Where several values are allowed
they are separated by commas.

`bursar migrate`, `bursar parked list|show|discard`, `bursar failures list` and `bursar audit clear` need `DATABASE_URL`
only; `bursar parked replay`, the other `bursar failures`, `bursar audit`, `bursar backfill` and `bursar reconcile` need
all that a worker needs; `bursar tick` needs `AMQP_URL` and `BURSAR_PARTITIONS` too. `bursar mail send-test` needs
`APP_URL` and the settings of its provider; `bursar mail preview` and `bursar catalogue check` need none.

`bursar up` makes values for development where some are missing and keeps them in `.bursar/up/environment`, unless
`STRIPE_SECRET_KEY` is a live key.

| variable | default | meaning |
|---|---|---|
"""

CLOSING = """
The numbers of the business (trial days, grace, warnings) are in the catalogue, `deploy/catalogue.toml`. It is checked
at every start, and by `bursar catalogue check [FILE]`, which names the key that is wrong.
"""


def configuration_page() -> str:
    """The page as Markdown."""
    rows = (f"| `{name.upper()}` | {_default(field)} | {field.description} |" for name, field in _fields())
    return INTRODUCTION + "\n".join(rows) + "\n" + CLOSING


def _fields() -> list[tuple[str, FieldInfo]]:
    return list(Settings.model_fields.items())


def _default(field: FieldInfo) -> str:
    default = field.default
    if default is PydanticUndefined:
        return "needed"
    if default is None:
        return ""
    if isinstance(default, Path):
        return f"`{default.relative_to(CHECKOUT)}`"
    if isinstance(default, bool):
        return f"`{int(default)}`"
    return f"`{default}`"


if __name__ == "__main__":
    PAGE.write_text(configuration_page(), encoding="utf-8")
