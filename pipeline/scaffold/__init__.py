"""Projects made from templates: `pipeline new`, and what `pipeline add` writes into one."""
