"""The rehearsal of a study: its whole graph with two steps per training, on stand-in images."""
