"""What an author declares when classes change while the records stay."""
