"""KiloClaw: hosted-instance subscriptions (rules KC)."""
