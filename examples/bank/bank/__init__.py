"""A bank: accounts, transfers by a saga or by a two-phase commit, statements in SQL. One file is one service."""
