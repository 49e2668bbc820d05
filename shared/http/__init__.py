"""What every HTTP function shares: the application, problem responses, dependencies, limits, paging."""
