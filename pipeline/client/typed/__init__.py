"""What callers name by its declaration, and rows and events as instances of their classes."""
