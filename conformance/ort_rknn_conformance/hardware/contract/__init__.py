"""The questions that the project asks of any runtime, and how they are asked without harm."""
