"""The forms a result can take: one file a form."""
