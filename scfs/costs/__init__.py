"""What a study costs: images per second, hours and memory, estimated before anything runs."""
