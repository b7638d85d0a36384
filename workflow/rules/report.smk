# Tables, figures and the report: from results alone. Cheap, so the package's files are inputs.


rule table:
    input:
        results=lambda wildcards: stages.table_results(study, wildcards.table),
        code=stages.report_modules(),
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
        identity=stages.identity(study, "table"),
    shell:
        command("table {wildcards.table:q}")


# A rule for each figure, as each kind has a caption of its own.
for figure, settings in study.figures.items():

    rule:
        name:
            f"figure_{figure}"
        input:
            results=stages.figure_results(study, figure),
            code=stages.report_modules(),
        output:
            report(
                paths.figure(study.study, figure, settings.kind),
                caption=f"../report/{settings.kind}.rst",
                category="Figures",
                labels={"figure": settings.title or figure},
            ),
        log:
            f"logs/report/{study.study}-figure-{figure}.log",
        params:
            identity=stages.identity(study, "figure"),
        shell:
            command(f"figure {shlex.quote(figure)}")


rule report:
    input:
        results=every_result(),
        tables=[paths.table(study.study, table) for table in study.tables],
        figures=figures(),
        code=stages.report_modules(),
    output:
        report(paths.report(study.study), caption="../report/report.rst", category="Report"),
    log:
        f"logs/report/{study.study}.log",
    params:
        identity=stages.identity(study, "report"),
    shell:
        command("report")
