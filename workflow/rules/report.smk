# Tables, figures and the report: from results alone. Cheap, so the package's files are inputs.


rule table:
    input:
        results=lambda wildcards: jobs.table_results(study, wildcards.table),
        code=report_modules(),
    output:
        json=paths.table(study.study, "{table}"),
        markdown=report(
            paths.table(study.study, "{table}").with_suffix(".md"),
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        metrics=paths.metrics(study.study, "{table}"),
    log:
        f"logs/report/{study.study}-table-{{table}}.log",
    params:
        parameters=jobs.parameters_hash(study, "table"),
    shell:
        command("table {wildcards.table:q}")


# A rule for each format. Its shell command must not name the loop's variable: Snakemake reads it when the job runs, and
# finds the last one.
for ending in dict.fromkeys(figure.format for figure in study.figures.values()):

    rule:
        name:
            f"draw_{ending}"
        input:
            results=lambda wildcards: jobs.figure_results(study, wildcards.figure),
            code=report_modules(),
        output:
            report(
                paths.figure(study.study, "{figure}", ending),
                caption="../report/figure.rst",
                category="Figures",
                labels={"figure": "{figure}"},
            ),
        log:
            f"logs/report/{study.study}-figure-{{figure}}.log",
        wildcard_constraints:
            figure=any_of(name for name, figure in study.figures.items() if figure.format == ending),
        params:
            parameters=jobs.parameters_hash(study, "figure"),
            caption=lambda wildcards: study.figures[wildcards.figure].caption,
        shell:
            command("figure {wildcards.figure:q}")


rule report:
    input:
        data=[path for dataset in study.data for path in jobs.inspected(dataset)],
        results=every_result(),
        tables=[paths.table(study.study, table) for table in study.tables],
        figures=figures(),
        code=report_modules(),
    output:
        report(paths.report(study.study), caption="../report/report.rst", category="Report"),
    log:
        f"logs/report/{study.study}.log",
    params:
        parameters=jobs.parameters_hash(study, "report"),
    shell:
        command("report")
