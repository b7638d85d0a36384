# Tables, figures and the report: from results alone. Cheap, so the package's files are inputs.


rule table:
    input:
        results=lambda wildcards: table_results(wildcards.table),
        code=report_modules(),
    output:
        json=paths.table(study.study, "{table}"),
        markdown=report(
            paths.table(study.study, "{table}").with_suffix(".md"),
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
    log:
        f"logs/report/{study.study}-table-{{table}}.log",
    params:
        identity=identity.report_identity(study),
    shell:
        command("table {wildcards.table:q}")


rule figure_curves:
    input:
        results=figure_results("curves"),
        code=report_modules(),
    output:
        report(
            paths.figure(study.study, "curves"),
            caption="../report/curves.rst",
            category="Figures",
            labels={"figure": "training curves"},
        ),
    log:
        f"logs/report/{study.study}-figure-curves.log",
    params:
        identity=identity.report_identity(study),
    shell:
        command("figure curves")


rule figure_layers:
    input:
        results=figure_results("layers"),
        code=report_modules(),
    output:
        report(
            paths.figure(study.study, "layers"),
            caption="../report/layers.rst",
            category="Figures",
            labels={"figure": "k-NN per layer"},
        ),
    log:
        f"logs/report/{study.study}-figure-layers.log",
    params:
        identity=identity.report_identity(study),
    shell:
        command("figure layers")


rule figure_attention:
    input:
        results=figure_results("attention"),
        code=report_modules(),
    output:
        report(
            paths.figure(study.study, "attention"),
            caption="../report/attention.rst",
            category="Figures",
            labels={"figure": "search attention"},
        ),
    log:
        f"logs/report/{study.study}-figure-attention.log",
    params:
        identity=identity.report_identity(study),
    shell:
        command("figure attention")


rule report:
    input:
        results=results(["pretrain", *study.evaluate]),
        tables=[paths.table(study.study, table) for table in study.tables],
        figures=[paths.figure(study.study, figure) for figure in figures()],
        code=report_modules(),
    output:
        report(paths.report(study.study), caption="../report/report.rst", category="Report"),
    log:
        f"logs/report/{study.study}.log",
    params:
        identity=identity.report_identity(study),
    shell:
        command("report")
