"""The pure model: Structs and functions without I/O, clock or randomness."""
