# Data sets: images and the manifest that describes them.


rule prepare:
    input:
        lambda wildcards: source_folders(wildcards.dataset),
    output:
        paths.manifest("{dataset}"),
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/prepare/{dataset}.tsv"
    threads: 1
    resources:
        mem_mb=2000,  # the annotations of COCO's train2017 take half of it
    params:
        identity=lambda wildcards: stages.identity(study, "prepare", wildcards.dataset),
    shell:
        command("prepare {wildcards.dataset:q}")
