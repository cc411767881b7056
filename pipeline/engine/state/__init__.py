"""What a task keeps: tables of rows, replies, deadlines, parked records, and their positions."""
