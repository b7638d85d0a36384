# Pre-training. No code among the inputs: the identity carries the stage's version instead, so that a refactoring
# repeats nothing. The resumable state under runs/ is not an output either: Snakemake deletes those before a rerun. On a
# cluster the rule still runs here: the command submits the job, follows it, and finds it again if it was killed.


localrules:
    pretrain,
    pretrain_init,


rule pretrain:
    input:
        lambda wildcards: paths.manifest(study.run(wildcards.run).dataset),
    output:
        weights=paths.weights("{run}"),
        result=paths.result("{run}", "pretrain"),
        run_metadata=paths.result("{run}", "pretrain").with_suffix(".run.json"),
        curve=paths.curve("{run}"),
    log:
        "logs/pretrain/{run}.log",
    benchmark:
        "logs/pretrain/{run}.tsv"
    wildcard_constraints:
        run=any_of(FROM_RANDOM),
    priority: 10  # the longest jobs first
    container:
        None if APPTAINER else IMAGE  # its command enters the image itself, see launched()
    threads: study.torch_threads
    resources:
        mem_mb=growing(2000),
        launch=os.environ.get("SCFS_LAUNCH", ""),
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "pretrain", wildcards.run),
    shell:
        launched("pretrain --run {wildcards.run:q}")


# From a file of weights, perhaps those of another run: another file makes it stale.
use rule pretrain as pretrain_init with:
    input:
        manifest=lambda wildcards: paths.manifest(study.run(wildcards.run).dataset),
        init=lambda wildcards: study.run(wildcards.run).init_files,
    wildcard_constraints:
        run=any_of(FROM_WEIGHTS),


# Third-party weights, as a run.
rule import_weights:
    output:
        weights=paths.weights("{run}"),
        result=paths.result("{run}", "pretrain"),
        run_metadata=paths.result("{run}", "pretrain").with_suffix(".run.json"),
    log:
        "logs/pretrain/{run}.log",
    wildcard_constraints:
        run=any_of(IMPORTED_ENTRIES),
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "import_weights", wildcards.run),
    shell:
        command("import-weights --run {wildcards.run:q}")


# From a file of one's own, which makes it stale.
use rule import_weights as import_file with:
    input:
        lambda wildcards: study.imported(wildcards.run).weights,
    wildcard_constraints:
        run=any_of(IMPORTED_FILES),


# The teacher's backbone in another library's format, with one rule for each ending of a file's name.
for ending in sorted({FORMATS[format].ending for format in export_formats()}):

    rule:
        name:
            "convert" if ending == "safetensors" else f"convert_{ending}"
        input:
            paths.weights("{run}"),
        output:
            paths.converted("{run}", f"{{library}}.{ending}"),
        log:
            "logs/convert/{library}/{run}.log",
        wildcard_constraints:
            library=any_of(format for format in export_formats() if FORMATS[format].ending == ending),
        params:
            parameters=jobs.parameters_hash(study, "convert"),
        shell:
            command("convert --run {wildcards.run:q} --to {wildcards.library:q}")
