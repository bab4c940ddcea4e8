"""The things that are called: a model in each of the forms it ships in."""
