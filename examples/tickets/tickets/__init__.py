"""A ticket shop: seats that are held for minutes, bookings with a reference of their own, a live seat map."""
