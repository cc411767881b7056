"""The commands of a project's author: from nothing to services that run."""
