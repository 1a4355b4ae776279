"""What the user declares: one module a stream; its name is no contract's, since it begins with `_`."""
