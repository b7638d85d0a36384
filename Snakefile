"""The whole pipeline of a study: params.yaml (the demo), or another one by --configfile config/<study>/params.yaml."""

from jsonschema import Draft202012Validator
from snakemake.utils import min_version

from scfs.config.study import params_schema

min_version("9.0")

if not config:

    configfile: "params.yaml"


include: "workflow/rules/common.smk"


# As workflow/schemas/params.schema.json, and with the kinds of plugins.
Draft202012Validator(params_schema()).validate(config)


report: "workflow/report/workflow.rst"


container: IMAGE  # used with --sdm apptainer only


wildcard_constraints:
    dataset=any_of(study.data),
    run=any_of(study.runs),
    evaluation=any_of(study.evaluate),
    table=any_of(study.tables),


include: "workflow/rules/data.smk"
include: "workflow/rules/pretrain.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        [paths.manifest(dataset) for dataset in study.data],
        [paths.inspection(dataset) for dataset in study.data],
        [paths.weights(run) for run in study.runs],
        [converted_path(run, format) for run, format in jobs.converted(study)],
        every_result(),
        every_part(),
        [paths.table(study.study, table) for table in study.tables],
        figures(),
        paths.report(study.study),


# A target for each table and figure.
for table in study.tables:

    rule:
        name:
            f"table_{table}"
        input:
            paths.table(study.study, table),
        localrule: True


for figure, settings in study.figures.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            paths.figure(study.study, figure, settings.format),
        localrule: True
