"""What the code means: what calls run, return and change, and the facts of training that the recognisers find."""
