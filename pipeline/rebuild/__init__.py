"""The next version of a projection beside the one that readers get: build, compare, switch, drop the old one."""
