"""Truestock: one reservation-aware ledger for store, warehouse and e-commerce stock."""

from importlib.metadata import version

__version__ = version("truestock")
