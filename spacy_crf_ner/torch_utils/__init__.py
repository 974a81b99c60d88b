"""What the torch modules share: the Thinc shim, precision, and length buckets."""
