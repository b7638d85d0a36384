# Evaluations: every protocol of the study on every run. The cheap ones first: their own modules are inputs.


rule evaluate:
    input:
        weights=paths.weights("{run}"),
        manifest=lambda wildcards: paths.manifest(study.evaluate[wildcards.evaluation].dataset),
        code=lambda wildcards: modules_of(study.evaluate[wildcards.evaluation].kind),
    output:
        result=paths.result("{run}", "{evaluation}"),
        run_metadata=paths.result("{run}", "{evaluation}").with_suffix(".run.json"),
    log:
        "logs/evaluate/{evaluation}/{run}.log",
    benchmark:
        "logs/evaluate/{evaluation}/{run}.tsv"
    wildcard_constraints:
        evaluation=any_of(evaluations_with("evaluate")),
    threads: study.torch_threads
    resources:
        mem_mb=growing(2000),
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "evaluate", wildcards.evaluation),
    shell:
        command("evaluate {wildcards.evaluation:q} --run {wildcards.run:q}")


# Some also leave the arrays that a figure is drawn from.
use rule evaluate as evaluate_arrays with:
    output:
        result=paths.result("{run}", "{evaluation}"),
        run_metadata=paths.result("{run}", "{evaluation}").with_suffix(".run.json"),
        arrays=paths.result("{run}", "{evaluation}").with_suffix(".npz"),
    wildcard_constraints:
        evaluation=any_of(WITH_ARRAYS),


ruleorder: evaluate_arrays > evaluate


# Those that train: as for pre-training, the identity carries the stage's version instead of the code, and the resumable
# state is no output. Grid points and trials are jobs of their own.


rule tune:
    input:
        training_inputs,
    output:
        result=paths.part("{run}", "{evaluation}", "{part}"),
        run_metadata=paths.part("{run}", "{evaluation}", "{part}").with_suffix(".run.json"),
    log:
        "logs/tune/{evaluation}/{run}-{part}.log",
    benchmark:
        "logs/tune/{evaluation}/{run}-{part}.tsv"
    wildcard_constraints:
        evaluation=any_of(evaluations_with("finetune")),
        part=r"lr\d+-wd\d+",
    threads: study.torch_threads
    resources:
        mem_mb=growing(2000),
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "tune", wildcards.evaluation),
    shell:
        command("tune {wildcards.evaluation:q} {wildcards.part:q} --run {wildcards.run:q}")


rule finetune:
    input:
        training_inputs,
        part_results,
    output:
        result=paths.result("{run}", "{evaluation}"),
        run_metadata=paths.result("{run}", "{evaluation}").with_suffix(".run.json"),
    log:
        "logs/finetune/{evaluation}/{run}.log",
    benchmark:
        "logs/finetune/{evaluation}/{run}.tsv"
    wildcard_constraints:
        evaluation=any_of(evaluations_with("finetune")),
    threads: study.torch_threads
    resources:
        mem_mb=growing(2000),
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "finetune", wildcards.evaluation),
    shell:
        command("finetune {wildcards.evaluation:q} --run {wildcards.run:q}")


rule detect:
    input:
        training_inputs,
    output:
        result=paths.part("{run}", "{evaluation}", "{part}"),
        run_metadata=paths.part("{run}", "{evaluation}", "{part}").with_suffix(".run.json"),
        arrays=paths.part("{run}", "{evaluation}", "{part}").with_suffix(".npz"),
    log:
        "logs/detect/{evaluation}/{run}-{part}.log",
    benchmark:
        "logs/detect/{evaluation}/{run}-{part}.tsv"
    wildcard_constraints:
        evaluation=any_of(evaluations_with("detect")),
        part=r"trial-\d+",
    priority: 5  # the longest after pre-training
    threads: study.torch_threads
    resources:
        mem_mb=growing(3000),
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "detect", wildcards.evaluation),
    shell:
        command("detect {wildcards.evaluation:q} {wildcards.part:q} --run {wildcards.run:q}")


rule average:
    input:
        part_results,
    output:
        result=paths.result("{run}", "{evaluation}"),
        run_metadata=paths.result("{run}", "{evaluation}").with_suffix(".run.json"),
        arrays=paths.result("{run}", "{evaluation}").with_suffix(".npz"),
    log:
        "logs/average/{evaluation}/{run}.log",
    wildcard_constraints:
        evaluation=any_of(evaluations_with("detect")),
    params:
        parameters=lambda wildcards: jobs.parameters_hash(study, "average", wildcards.evaluation),
    shell:
        command("average {wildcards.evaluation:q} --run {wildcards.run:q}")
