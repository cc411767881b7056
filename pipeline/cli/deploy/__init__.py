"""Commands for who deploys workers."""
