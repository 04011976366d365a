"""A segment in the form in which the vendor's compiler takes it."""
