"""What the operator can set: the model, where each value comes from, and the grammar of specs."""
