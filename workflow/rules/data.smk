# Data sets: images, the manifest that describes them, and what they hold.


rule prepare:
    input:
        lambda wildcards: source_folders(wildcards.dataset),
    output:
        paths.manifest("{dataset}"),
    log:
        "logs/prepare/{dataset}.log",
    benchmark:
        "logs/prepare/{dataset}.tsv"
    wildcard_constraints:
        dataset=any_of(OWN_DATA),
    threads: 1
    resources:
        mem_mb=growing(2000),  # the annotations of COCO's train2017 take half of it
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "prepare", wildcards.dataset),
    shell:
        command("prepare {wildcards.dataset:q}")


# From official archives, which are no input: their hashes are in the catalogue, and so in the identity.
use rule prepare as prepare_official with:
    input:
        [],
    wildcard_constraints:
        dataset=any_of(OFFICIAL_DATA),


# A part of another entry's archives: ImageNet-100.
use rule prepare_official as prepare_subset with:
    wildcard_constraints:
        dataset=any_of(SUBSETS),


# What a data set holds, for the report. Cheap, so its modules are inputs.
rule inspect:
    input:
        manifest=paths.manifest("{dataset}"),
        code=inspection_modules(),
    output:
        jobs.inspected("{dataset}"),
    log:
        "logs/inspect/{dataset}.log",
    benchmark:
        "logs/inspect/{dataset}.tsv"
    threads: 1
    resources:
        mem_mb=growing(2000),  # as above
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "inspect", wildcards.dataset),
    shell:
        command("inspect {wildcards.dataset:q}")
