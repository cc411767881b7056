"""Commands for operators: parked records, sagas, deadlines, versions of projections."""
