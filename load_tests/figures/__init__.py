"""The figures, one module a subject; each function measures and answers lines of the table."""
