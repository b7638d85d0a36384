# Evaluations: every protocol of the study on every run. Cheap, so their own modules are inputs.


rule evaluate:
    input:
        weights=paths.weights("{run}"),
        manifest=lambda wildcards: paths.manifest(study.evaluate[wildcards.evaluation].dataset),
        code=lambda wildcards: stages.modules_of(study.evaluate[wildcards.evaluation].kind),
    output:
        result=paths.result("{run}", "{evaluation}"),
        occasion=paths.result("{run}", "{evaluation}").with_suffix(".run.json"),
    log:
        "logs/evaluate/{evaluation}/{run}.log",
    benchmark:
        "logs/evaluate/{evaluation}/{run}.tsv"
    threads: study.torch_threads
    resources:
        mem_mb=2000,
    params:
        identity=lambda wildcards: stages.identity(study, "evaluate", wildcards.evaluation),
    shell:
        command("evaluate {wildcards.evaluation:q} --run {wildcards.run:q}")


# Some also leave the arrays that a figure is drawn from.
use rule evaluate as evaluate_arrays with:
    output:
        result=paths.result("{run}", "{evaluation}"),
        occasion=paths.result("{run}", "{evaluation}").with_suffix(".run.json"),
        arrays=paths.result("{run}", "{evaluation}").with_suffix(".npz"),
    wildcard_constraints:
        evaluation=any_of(WITH_ARRAYS),


ruleorder: evaluate_arrays > evaluate
