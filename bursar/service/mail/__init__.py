"""The mails' words: a table of types and, for each, a template in HTML and in plain text."""
