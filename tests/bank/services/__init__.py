"""The second reference business, a bank: every type that the codec knows, functions that raise or are slow on demand.

`conduct.py` says how they are made to. Messages are dataclasses in one service, named tuples in another.
"""
