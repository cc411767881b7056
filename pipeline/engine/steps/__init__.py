"""What is done with one record: decide, react, route, project, ask, reserve, schedule."""
