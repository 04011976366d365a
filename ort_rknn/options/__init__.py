"""Provider options: the table, parsers, configuration files and provider lists."""
