"""The credit ledger of a user (CR-1…CR-3): entries are added, never changed, and the database says so too."""

from collections.abc import Iterable
from enum import StrEnum

from bursar.billing.account import Account
from bursar.billing.errors import Refused
from bursar.billing.values import Value, replace

MICRODOLLARS_PER_CENT = 10_000
MICRODOLLARS_PER_DOLLAR = 100 * MICRODOLLARS_PER_CENT
MAX_DESCRIPTION_CHARACTERS = 200
OLD_SETTLEMENT = "kiloclaw-settlement:"  # begins the keys of an earlier system's settlements (CR-54)


class EntryKind(StrEnum):
    """What an entry is. Charges move what was used; everything else moves what was acquired."""

    DEPOSIT = "deposit"
    CHARGE = "charge"
    REFUND = "refund"  # may take the balance below zero (CR-2)
    DISPUTE = "dispute"  # likewise
    SETTLEMENT_DEPOSIT = "settlement_deposit"  # a pair of these two is neutral: it passes whatever the balance
    SETTLEMENT_CHARGE = "settlement_charge"


OF_WHAT_WAS_USED = (EntryKind.CHARGE, EntryKind.SETTLEMENT_CHARGE)


class InsufficientCredits(Refused):
    """CR-21: too little money; nothing was charged."""

    def __init__(self, shortfall_microdollars: int) -> None:
        super().__init__(
            "insufficient_credits",
            f"The balance is {in_dollars(shortfall_microdollars)} short.",
            status=402,
            members={"shortfall_microdollars": shortfall_microdollars},
        )
        self.shortfall_microdollars = shortfall_microdollars


class ChargesStopped(Refused):
    """CR-4: the user's counters do not fit their entries; nothing was charged."""

    def __init__(self) -> None:
        super().__init__("charges_stopped", "The account is being looked at; nothing is charged meanwhile.", status=409)


class Entry(Value):
    """One line of the ledger. `business_key` says what it is for, and is unique for ever (CR-3).

    `payment_id` is Stripe's id of the payment that a deposit, a withdrawal or a settlement belongs to; a charge has
    none. `cause` is the id of the message that brought it.
    """

    kind: EntryKind
    amount_microdollars: int
    description: str
    business_key: str
    cause: str
    payment_id: str | None = None


class Reversal(Value, kw_only=True):
    """A refund or a lost dispute: money of a payment that went back (CR-11).

    `payment_ids` is what its payment may be known by. `amount_microdollars` is what went back by it; of a refund whose
    event does not say what went back before, all of its charge so far.
    """

    kind: EntryKind
    business_key: str
    payment_ids: tuple[str, ...]
    amount_microdollars: int
    cause: str


class Credits(Value):
    """The credit part of an account: the counters, and the newest entries, oldest first.

    At most 1,000 entries are loaded; an older one's key is still the database's to refuse. Where `of_payments` is set,
    only what is known of these payments is, and the old settlements (CR-54): a question about anything else raises
    LookupError. `early_reversals` are those to be remembered; they are never loaded, but taken when their payment is
    deposited. `charges_stopped`: an operator has to look first (CR-4).
    """

    acquired_microdollars: int = 0
    used_microdollars: int = 0
    entries: tuple[Entry, ...] = ()
    early_reversals: tuple[Reversal, ...] = ()
    charges_stopped: bool = False
    of_payments: frozenset[str] | None = None

    @property
    def balance_microdollars(self) -> int:
        """Acquired less used; below zero only after a refund or a lost dispute (CR-2)."""
        return self.acquired_microdollars - self.used_microdollars

    def has(self, business_key: str) -> bool:
        """Whether the ledger has an entry under that key already."""
        self._require(self.of_payments is None)
        return business_key in [entry.business_key for entry in self.entries]

    def has_cause(self, cause: str) -> bool:
        """Whether that message brought an entry."""
        self._require(self.of_payments is None)
        return cause in [entry.cause for entry in self.entries]

    def of_payment(self, payment_ids: Iterable[str], *kinds: EntryKind) -> tuple[Entry, ...]:
        """The entries of those kinds, or of all, that belong to any of the payments."""
        wanted = frozenset(payment_ids)
        self._require(self.of_payments is None or wanted <= self.of_payments)
        of_any = [entry for entry in self.entries if entry.payment_id in wanted]
        return tuple(entry for entry in of_any if not kinds or entry.kind in kinds)

    def old_settlements(self, period_key: str) -> tuple[Entry, ...]:
        """What an earlier system wrote under that key, alone or with more after a colon (CR-54)."""
        self._require(self.of_payments is None or period_key.startswith(OLD_SETTLEMENT))
        longer = f"{period_key}:"
        return tuple(
            one for one in self.entries if one.business_key == period_key or one.business_key.startswith(longer)
        )

    def _require(self, is_loaded: bool) -> None:  # noqa: FBT001 - an assertion
        if not is_loaded:
            raise LookupError("the ledger was loaded for certain payments, and is asked about something else")


def credits_of(account: Account) -> Credits:
    """The account's credit part."""
    return account.part(Credits)


def with_entry(account: Account, entry: Entry) -> Account:
    """The account with that entry; InsufficientCredits for a charge beyond the balance (CR-2), ChargesStopped for any
    while the account is looked at (CR-4).
    """
    credit = credits_of(account)
    left = credit.balance_microdollars + entry.amount_microdollars
    if entry.kind is EntryKind.CHARGE and credit.charges_stopped:
        raise ChargesStopped
    if entry.kind is EntryKind.CHARGE and left < 0:
        raise InsufficientCredits(-left)
    return _with_entries(account, entry)


def with_settlement(account: Account, deposit: Entry, charge: Entry) -> Account:
    """The account with a neutral pair, in one decision and therefore one statement (CR-2, CR-11, CR-51)."""
    if deposit.amount_microdollars + charge.amount_microdollars or deposit.payment_id != charge.payment_id:
        raise ValueError("a settlement is a pair of one payment whose sum is nothing")
    return _with_entries(account, deposit, charge)


def _with_entries(account: Account, *entries: Entry) -> Account:
    credit = credits_of(account)
    acquired, used = credit.acquired_microdollars, credit.used_microdollars
    for one in entries:
        if one.kind in OF_WHAT_WAS_USED:
            used -= one.amount_microdollars
        else:
            acquired += one.amount_microdollars
    added = (*credit.entries, *entries)
    return account.having(replace(credit, acquired_microdollars=acquired, used_microdollars=used, entries=added))


def in_dollars(microdollars: int) -> str:
    """An amount as people write it, such as `$25.00`; what is less than a cent is written out."""
    sign, amount = "-" if microdollars < 0 else "", abs(microdollars)
    whole, rest = divmod(amount, MICRODOLLARS_PER_DOLLAR)
    cents, finer = divmod(rest, MICRODOLLARS_PER_CENT)
    return f"{sign}${whole}.{cents:02}" + (f"{finer:04}".rstrip("0") if finer else "")
