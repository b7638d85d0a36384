"""The jobs of a study, for DVC and Snakemake."""
