"""Small helpers that know nothing of models: frozen values, logging, lazy imports, folders."""
