"""What must have followed from a command partition: replies, deadlines, parked records."""
