"""Answers of `/v1/users/{user}`: the profile, its deletion, and the history of the user's rows."""

from typing import Any, Literal

from pydantic import AwareDatetime, Field

from bursar.service.web.answers import Answer, example


class ProfileAnswer(Answer):
    """What is known of a user."""

    model_config = example(
        user_id="ada",
        email="ada@example.com",
        name="Ada Lovelace",
        stripe_customer_id="cus_QxK1",
        auto_top_up=False,
    )

    user_id: str
    email: str | None
    name: str | None
    stripe_customer_id: str | None = Field(description="Null until the user has a customer at Stripe.")
    auto_top_up: bool = Field(description="Whether a renewal that is short of money charges the card on file.")


class DeletedUserAnswer(Answer):
    """The user is deleted, now or before."""

    model_config = example(user_id="ada", deleted=True)

    user_id: str
    deleted: Literal[True]


class HistoryEntryAnswer(Answer):
    """One row that changed."""

    id: int
    entity: str = Field(description="What kind of row, such as `kiloclaw_subscriptions`.")
    entity_id: str
    before: dict[str, Any] | None = Field(description="The fields that differ, as they were; null for a new row.")
    after: dict[str, Any] = Field(description="The same fields as they became; of a new row all that are set.")
    cause: str = Field(description="The message, command or tick that caused it.")
    actor: str = Field(description="Who acted.")
    reason: str
    decided_at: AwareDatetime = Field(description="Business time.")


class HistoryAnswer(Answer):
    """A page of the history, newest first."""

    entries: list[HistoryEntryAnswer]
    next_cursor: int | None = Field(description="The `cursor` of the next page; null after the last.")
