"""Configuration: frozen classes that check themselves, the study that joins them, and the identity of a stage."""
