"""JSON as contracts read it: strict values, typed columns, and the faster ways that must agree with them."""
