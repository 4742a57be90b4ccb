"""From requests to answers: decode, check, predict, encode."""
