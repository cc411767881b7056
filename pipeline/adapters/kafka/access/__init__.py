"""Who may do what on the broker: rules from the declared services, and the ACLs made of them."""
