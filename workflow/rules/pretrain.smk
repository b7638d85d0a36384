# Pre-training. No code among the inputs: the identity carries the stage's version instead, so that a refactoring
# repeats nothing. The resumable state under runs/ is not an output either: Snakemake deletes those before a rerun.


rule pretrain:
    input:
        lambda wildcards: paths.manifest(study.run(wildcards.run).dataset),
    output:
        weights=paths.weights("{run}"),
        result=paths.result("{run}", "pretrain"),
        occasion=paths.result("{run}", "pretrain").with_suffix(".run.json"),
    log:
        "logs/pretrain/{run}.log",
    benchmark:
        "logs/pretrain/{run}.tsv"
    priority: 10  # the longest jobs first
    threads: study.torch_threads
    resources:
        mem_mb=2000,
    params:
        identity=lambda wildcards: identity.pretrain_identity(study, wildcards.run),
    shell:
        command("pretrain --run {wildcards.run:q}")
