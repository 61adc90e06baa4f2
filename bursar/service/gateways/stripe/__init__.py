"""Stripe: its calls within a rate budget, its errors in our words, its objects as far as our rules read them."""

from bursar.service.gateways.stripe.budget import MAX_CONNECTIONS, Priority, RateBudget
from bursar.service.gateways.stripe.gateway import StripeGateway
from bursar.service.gateways.stripe.pages import MAX_PAGES, PAGE_SIZE, EventsPage, SubscriptionsPage
from bursar.service.gateways.stripe.requests import TIMEOUT_SECONDS

__all__ = [
    "MAX_CONNECTIONS",
    "MAX_PAGES",
    "PAGE_SIZE",
    "TIMEOUT_SECONDS",
    "EventsPage",
    "Priority",
    "RateBudget",
    "StripeGateway",
    "SubscriptionsPage",
]
