"""`python -m truestock`: the command, also where its script is not on the path."""

from truestock.cli import run

if __name__ == "__main__":
    run()
