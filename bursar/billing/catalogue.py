"""The catalogue: every number of the rules, as `deploy/catalogue.toml` gives it, validated when the service starts."""

from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PositiveInt, model_validator

Plan = Literal["trial", "standard", "commit"]
PaidPlan = Literal["standard", "commit"]

Funding = Literal["direct", "credits"]

Days = Annotated[int, Field(ge=0, le=3660)]


class Section(BaseModel):
    """Base of the catalogue's tables: frozen, and no unknown key."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TrialTerms(Section):
    """The free trial (KC-10) and its two warnings (KC-75)."""

    days: PositiveInt = 30
    early_warning_days: Days = 5
    late_warning_days: Days = 1


class GraceTerms(Section):
    """How long before a suspension (KC-71) and before a destruction (KC-60, KC-70, KC-71)."""

    past_due_days: Days = 14
    destruction_days: Days = 7
    destruction_warning_days: Days = 2
    destructions_per_day: PositiveInt = 500


class EarlybirdTerms(Section):
    """The one-time purchase and its warnings (KC-76)."""

    access_until: AwareDatetime
    early_warning_days: Days = 14
    late_warning_days: Days = 1


class CheckoutTerms(Section):
    """How new subscriptions are sold (KC-21): paid directly at Stripe, or through the credit account."""

    funding: Funding = "direct"


class CreditTerms(Section):
    """What hosting costs when it is paid from credits (CR-21), each plan for its whole period."""

    standard_cents: PositiveInt = 2_500
    standard_months: PositiveInt = 1
    commit_cents: PositiveInt = 5_400
    commit_months: PositiveInt = 6

    def cents(self, plan: PaidPlan) -> int:
        """The price of one period of the plan."""
        return self.standard_cents if plan == "standard" else self.commit_cents

    def months(self, plan: PaidPlan) -> int:
        """The length of one period of the plan, in calendar months."""
        return self.standard_months if plan == "standard" else self.commit_months


class TopUpTerms(Section):
    """The amounts that credits are sold for (CR-10)."""

    amounts_cents: tuple[PositiveInt, ...] = (2_000, 5_000, 10_000)
    default_cents: PositiveInt = 5_000

    @model_validator(mode="after")
    def _default_is_offered(self) -> Self:
        if self.default_cents not in self.amounts_cents:
            raise ValueError("default_cents must be one of amounts_cents")
        return self


class Prices(Section):
    """What the environment says about selling: Stripe's price ids per plan (KC-34), of which the first is sold and all
    are recognised; the coupon of earlybird users; the instant before which nothing is charged (KC-21).
    """

    standard: tuple[str, ...]
    commit: tuple[str, ...]
    earlybird_coupon_id: str | None = None
    billing_starts_at: AwareDatetime | None = None

    def plan_of(self, price_id: str) -> PaidPlan | None:
        """The plan of a price, or None when it is unknown."""
        if price_id in self.standard:
            return "standard"
        return "commit" if price_id in self.commit else None

    def sold(self, plan: PaidPlan) -> str:
        """The price id that a checkout of the plan sells."""
        return self.standard[0] if plan == "standard" else self.commit[0]


class KiloclawTerms(Section):
    """Hosted-instance subscriptions."""

    trial: TrialTerms = TrialTerms()
    grace: GraceTerms = GraceTerms()
    checkout: CheckoutTerms = CheckoutTerms()
    credits: CreditTerms = CreditTerms()
    earlybird: EarlybirdTerms


class Catalogue(Section):
    """Everything a decision may need besides the account: passed to it as `facts`."""

    kiloclaw: KiloclawTerms
    top_up: TopUpTerms = TopUpTerms()
    prices: Prices
