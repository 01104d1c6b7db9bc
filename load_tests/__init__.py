"""What is fast, how fast, and against what: `python -m load_tests` measures it side by side."""
