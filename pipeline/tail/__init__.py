"""Records of topics as people and machines can read them, whether or not there are classes for them."""
