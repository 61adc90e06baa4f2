import re
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from bursar.billing.errors import Permanent
from bursar.billing.values import replace
from bursar.service.mail.render import MAILS, MailContext, day, render

FULL = MailContext(
    app_url="https://app.bursar.test/",
    name="Ann Lee",
    trial_ends_at=datetime(2026, 7, 1, 14, 5, tzinfo=UTC),
    current_period_end=datetime(2026, 7, 2, 14, 5, tzinfo=UTC),
    past_due_since=datetime(2026, 6, 17, 8, 0, tzinfo=UTC),
    destruction_deadline=datetime(2026, 7, 8, 14, 5, tzinfo=UTC),
    earlybird_ends_at=datetime(2026, 9, 26, 0, 0, tzinfo=UTC),
)
BARE = MailContext(app_url="https://app.bursar.test")

SUBJECTS = {
    "claw_trial_5d": "Your KiloClaw Trial Ends in 5 Days",
    "claw_trial_1d": "Your KiloClaw Trial Expires Tomorrow",
    "claw_suspended_trial": "Your KiloClaw Trial Has Ended",
    "claw_suspended_subscription": "Your KiloClaw Subscription Has Ended",
    "claw_suspended_payment": "Action Required: KiloClaw Payment Overdue",
    "claw_destruction_warning": "Your KiloClaw Instance Will Be Deleted in 2 Days",
    "claw_instance_destroyed": "Your KiloClaw Instance Has Been Deleted",
    "claw_earlybird_14d": "Your KiloClaw Earlybird Access Ends Soon",
    "claw_earlybird_1d": "Your KiloClaw Earlybird Access Expires Tomorrow",
    "claw_credit_renewal_failed": "Action Required: Your KiloClaw Renewal Failed",
}

TELLS = {
    "claw_trial_5d": ["1 July 2026"],
    "claw_trial_1d": ["1 July 2026", "14:05 UTC"],
    "claw_suspended_trial": ["1 July 2026", "8 July 2026"],
    "claw_suspended_subscription": ["2 July 2026", "8 July 2026"],
    "claw_suspended_payment": ["17 June 2026", "8 July 2026"],
    "claw_destruction_warning": ["8 July 2026", "14:05 UTC"],
    "claw_instance_destroyed": [],
    "claw_earlybird_14d": ["26 September 2026"],
    "claw_earlybird_1d": ["26 September 2026", "00:00 UTC"],
    "claw_credit_renewal_failed": ["17 June 2026"],
}

every_type = pytest.mark.parametrize("mail_type", sorted(SUBJECTS))


class Page(HTMLParser):
    """What a reader sees, where links lead, and whether every element is closed."""

    VOID = frozenset({"meta", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in {"href", "src"}]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_kc_85_the_table_has_every_type_with_its_subject() -> None:
    assert {mail_type: mail.subject for mail_type, mail in MAILS.items()} == SUBJECTS


@every_type
def test_kc_85_the_subject_is_the_tables(mail_type: str) -> None:
    rendered = render(mail_type, FULL)
    assert rendered.subject == SUBJECTS[mail_type]
    assert f"<title>{SUBJECTS[mail_type]}</title>" in rendered.html


@every_type
@pytest.mark.parametrize("context", [FULL, BARE], ids=["full", "bare"])
def test_kc_85_every_link_leads_to_claw(mail_type: str, context: MailContext) -> None:
    rendered = render(mail_type, context)
    assert set(Page(rendered.html).links) == {"https://app.bursar.test/claw"}
    assert re.findall(r"https?://\S+", rendered.text) == ["https://app.bursar.test/claw"]


@every_type
def test_kc_89_both_forms_tell_the_instants(mail_type: str) -> None:
    rendered = render(mail_type, FULL)
    page = " ".join(Page(rendered.html).words)
    for told in TELLS[mail_type]:
        assert told in page
        assert told in rendered.text


@every_type
def test_kc_89_both_forms_greet_by_name(mail_type: str) -> None:
    rendered = render(mail_type, FULL)
    assert ">Hi Ann Lee,<" in rendered.html
    assert rendered.text.startswith("Hi Ann Lee,\n\n")


@every_type
def test_a_mail_without_name_and_instants_still_reads(mail_type: str) -> None:
    rendered = render(mail_type, BARE)
    assert ">Hi,<" in rendered.html
    assert rendered.text.startswith("Hi,\n\n")
    assert not [word for word in ("None", "  ", " ,", " .", "\n\n\n") if word in rendered.text]


@every_type
@pytest.mark.parametrize(
    "context",
    [
        replace(FULL, trial_ends_at=None),
        replace(FULL, current_period_end=None),
        replace(FULL, past_due_since=None),
        replace(FULL, destruction_deadline=None),
        replace(FULL, earlybird_ends_at=None),
    ],
)
def test_a_mail_misses_any_one_instant_gracefully(mail_type: str, context: MailContext) -> None:
    rendered = render(mail_type, context)
    assert "None" not in rendered.html + rendered.text


@every_type
def test_the_html_escapes_a_name(mail_type: str) -> None:
    hostile = replace(FULL, name='<img src="x" onerror="y">&amp;')
    page = Page(render(mail_type, hostile).html)
    assert not page.open
    assert set(page.links) == {"https://app.bursar.test/claw"}
    assert 'Hi <img src="x" onerror="y">&amp;,' in page.words


def test_a_name_stays_on_one_line_and_short() -> None:
    rendered = render("claw_trial_5d", replace(FULL, name="Ann\r\n\r\nClick here: " + "x" * 500))
    greeting = rendered.text.splitlines()[0]
    assert greeting.startswith("Hi Ann Click here: xxx")
    assert len(greeting) == len("Hi ") + 60 + len(",")


@every_type
def test_the_text_has_no_tags_entities_or_apostrophe_codes(mail_type: str) -> None:
    text = render(mail_type, replace(FULL, name="Ann O'Neil & Co")).text
    assert not re.search(r"<[a-z/!]|&#?\w+;", text)
    assert text.startswith("Hi Ann O'Neil & Co,")


@every_type
def test_the_html_is_whole_and_loads_nothing(mail_type: str) -> None:
    html = render(mail_type, FULL).html
    assert not Page(html).open
    assert not re.search(r"<(img|script|link|style|iframe)\b|url\(", html)


def test_kc_85_every_template_is_used() -> None:
    folder = files("bursar.service.mail") / "templates"
    shared = {"base.html.j2", "base.txt.j2", "parts.html.j2"}
    of_mails = {f"{mail.name}.{form}.j2" for mail in MAILS.values() for form in ("html", "txt")}
    assert {entry.name for entry in folder.iterdir()} == shared | of_mails


def test_an_unknown_type_is_permanent() -> None:
    with pytest.raises(Permanent, match="claw_unheard_of"):
        render("claw_unheard_of", FULL)


def test_days_are_days_in_utc() -> None:
    east = timezone(timedelta(hours=5))
    assert day(datetime(2026, 7, 1, 3, 0, tzinfo=east)) == "30 June 2026"
