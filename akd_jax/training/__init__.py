"""Training: the state, one update, the loop over a stage and the evaluation."""
