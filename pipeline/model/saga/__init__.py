"""Work that spans services: sagas, linear ones from steps, and two-phase commit; pure."""
