"""One request followed through the logs: who decided what of it, who was told, and which rows came of it."""
