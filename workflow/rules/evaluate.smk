# Evaluations: every protocol of the study on every run. Cheap, so their own modules are inputs.


rule evaluate:
    input:
        weights=paths.weights("{run}"),
        manifest=lambda wildcards: paths.manifest(study.evaluate[wildcards.evaluation].dataset),
        code=lambda wildcards: evaluation_modules(wildcards.evaluation),
    output:
        result=paths.result("{run}", "{evaluation}"),
        occasion=paths.result("{run}", "{evaluation}").with_suffix(".run.json"),
    log:
        "logs/evaluate/{run}-{evaluation}.log",
    benchmark:
        "logs/evaluate/{run}-{evaluation}.tsv"
    threads: study.torch_threads
    resources:
        mem_mb=2000,
    params:
        identity=lambda wildcards: identity.evaluate_identity(study, wildcards.evaluation),
    shell:
        command("evaluate {wildcards.evaluation:q} --run {wildcards.run:q}")


# Attention also leaves the images and maps that its figure shows.
use rule evaluate as evaluate_attention with:
    output:
        result=paths.result("{run}", "{evaluation}"),
        occasion=paths.result("{run}", "{evaluation}").with_suffix(".run.json"),
        maps=paths.result("{run}", "{evaluation}").with_suffix(".npz"),
    wildcard_constraints:
        evaluation=any_of(of_kind("attention")),


ruleorder: evaluate_attention > evaluate
